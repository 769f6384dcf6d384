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

{{/* Labels that select the operator's pods. They never change. */}}
{{- define "larder.selector" -}}
app.kubernetes.io/name: larder-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of the objects of `helm test`, which the operator's selector must not match. */}}
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

{{/* The full name of an image. Takes a list: the root and the image's key in the values. */}}
{{- define "larder.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.images.registry -}}{{ trimSuffix "/" . }}/{{- end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ default $root.Values.images.tag $image.tag }}{{- end -}}
{{- end -}}

{{/* The namespaces that the operator reconciles, as JSON, so that callers can restore the list. */}}
{{- define "larder.namespaces" -}}
{{- if .Values.watchNamespaces -}}
{{- .Values.watchNamespaces | uniq | toJson -}}
{{- else -}}
{{- list .Release.Namespace | toJson -}}
{{- end -}}
{{- end -}}

{{/*
The permissions of the operator in a reconciled namespace, except those on Secrets.
`operator/src/run.rs` documents them, and operator/tests/chart.rs compares the two.
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
The permissions on Secrets: to read those that a resource names and to write the one that members
mount. A cluster-wide operator reads them by name and does not watch them.
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

{{/* The owner of an object, in words; empty for this release. Takes a list: the root, the object. */}}
{{- define "larder.otherOwner" -}}
{{- $root := index . 0 -}}
{{- $annotations := default dict (index . 1).metadata.annotations -}}
{{- $name := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- if not $name -}}
an installation without helm
{{- else if not (and (eq $name $root.Release.Name) (eq $namespace $root.Release.Namespace)) -}}
the release {{ $name }} in the namespace {{ $namespace }}
{{- end -}}
{{- end -}}

{{/* The same for the Role or binding of an operator; empty for any other object. */}}
{{- define "larder.otherOperator" -}}
{{- $object := index . 1 -}}
{{- $labels := default dict $object.metadata.labels -}}
{{- $ours := eq (get $labels "app.kubernetes.io/name") "larder-operator" -}}
{{- if and $ours (not (hasSuffix "-lease" $object.metadata.name)) -}}
{{- include "larder.otherOwner" . -}}
{{- end -}}
{{- end -}}
