{{/* Name of every object of the release. */}}
{{- define "larder.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels by which the operator's pods are found; they never change. */}}
{{- define "larder.selector" -}}
app.kubernetes.io/name: larder-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of what `helm test` makes; the operator's own selector must not find it. */}}
{{- define "larder.testLabels" -}}
app.kubernetes.io/name: larder-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "larder.labels" -}}
{{ include "larder.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "larder.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "larder.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The operator, as the subject of a binding. */}}
{{- define "larder.subject" -}}
- kind: ServiceAccount
  name: {{ include "larder.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* An image's full name. Takes a list: the root, and the name of the image. */}}
{{- define "larder.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.images.registry -}}{{ trimSuffix "/" . }}/{{- end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ default $root.Values.images.tag $image.tag }}{{- end -}}
{{- end -}}

{{/* Namespaces looked after, as JSON, so that callers get a list back. */}}
{{- define "larder.namespaces" -}}
{{- if .Values.watchNamespaces -}}
{{- .Values.watchNamespaces | uniq | toJson -}}
{{- else -}}
{{- list .Release.Namespace | toJson -}}
{{- end -}}
{{- end -}}

{{/*
What the operator may do where a CacheCluster lives, all but Secrets. `operator/src/run.rs` says why;
operator/tests/chart.rs compares.
*/}}
{{- define "larder.rules" -}}
- apiGroups: [larder.dev]
  resources: [cacheclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [larder.dev]
  resources: [cachegroups]
  verbs: [get, list, watch]
- apiGroups: [larder.dev]
  resources: [cacheclusters/status, cachegroups/status]
  verbs: [patch]
- apiGroups: [larder.dev]
  resources: [cacheclusters/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/*
Reads the Secrets that a resource names, keeps the one that members mount. Cluster-wide they are
read by name and not watched.
*/}}
{{- define "larder.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, {{ if not .Values.clusterWide }}list, watch, {{ end }}create, patch]
{{- end -}}

{{/* The security context of every container. */}}
{{- define "larder.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The security context of every pod. */}}
{{- define "larder.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Whose an object is, in words, when it is not this release's. Takes a list: the root, the object. */}}
{{- define "larder.otherOwner" -}}
{{- $root := index . 0 -}}
{{- $annotations := default dict (index . 1).metadata.annotations -}}
{{- $name := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- if not $name -}}
something that helm did not install
{{- else if not (and (eq $name $root.Release.Name) (eq $namespace $root.Release.Namespace)) -}}
the release {{ $name }} in the namespace {{ $namespace }}
{{- end -}}
{{- end -}}

{{/* The same for a Role or a binding by which an operator looks after a namespace; else nothing. */}}
{{- define "larder.otherOperator" -}}
{{- $object := index . 1 -}}
{{- $labels := default dict $object.metadata.labels -}}
{{- $ours := eq (get $labels "app.kubernetes.io/name") "larder-operator" -}}
{{- if and $ours (not (hasSuffix "-lease" $object.metadata.name)) -}}
{{- include "larder.otherOwner" . -}}
{{- end -}}
{{- end -}}
