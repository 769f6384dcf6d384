// Local-provisioner creates a new directory for each claim of its class, on the node where the pod was
// scheduled, and removes directory and volume after the claim was deleted.
//
// All nodes of the test cluster share one machine, so it accesses the directories directly. It uses only
// client-go: the usual provisioner library would require newer versions than Kubernetes pins.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

const (
	provisioner    = "larder.dev/local"
	chosenNode     = "volume.kubernetes.io/selected-node"
	claimedFor     = "volume.kubernetes.io/storage-provisioner"
	provisionedBy  = "pv.kubernetes.io/provisioned-by"
	requestTimeout = 10 * time.Second
)

// local creates and removes directories below root according to claims and volumes.
type local struct {
	client kubernetes.Interface
	root   string
}

// needsVolume reports whether a claim waits for a volume of this provisioner: its pod has been scheduled, and no
// volume is bound yet.
func needsVolume(claim *core.PersistentVolumeClaim) bool {
	return claim.Annotations[claimedFor] == provisioner && claim.Annotations[chosenNode] != "" &&
		claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil && claim.Spec.StorageClassName != nil
}

// isReleased reports whether the claim of a volume of this provisioner was deleted.
func isReleased(volume *core.PersistentVolume) bool {
	return volume.Annotations[provisionedBy] == provisioner && volume.Status.Phase == core.VolumeReleased &&
		volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete && volume.Spec.Local != nil
}

// volumeFor returns the volume for a claim: a directory with an affinity to its node.
func volumeFor(claim *core.PersistentVolumeClaim, root string) *core.PersistentVolume {
	node, name := claim.Annotations[chosenNode], "pvc-"+string(claim.UID)
	here := core.NodeSelectorRequirement{
		Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node},
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisioner}},
		Spec: core.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			StorageClassName:              *claim.Spec.StorageClassName,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeSource: core.PersistentVolumeSource{
				Local: &core.LocalVolumeSource{Path: filepath.Join(root, node, "volumes", name)},
			},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{here}}},
			}},
		},
	}
}

func (l local) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	volume := volumeFor(claim, l.root)
	path := volume.Spec.Local.Path
	// MkdirAll applies the umask, but pods of any user must be able to write.
	if err := errors.Join(os.MkdirAll(path, 0o777), os.Chmod(path, 0o777)); err != nil {
		return err
	}
	_, err := l.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (l local) remove(ctx context.Context, volume *core.PersistentVolume) error {
	if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
		return err
	}
	err := l.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// run handles one object at a time. Failures are retried with increasing delays.
func (l local) run(ctx context.Context) {
	factory := informers.NewSharedInformerFactory(l.client, 0)
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[any]())
	context.AfterFunc(ctx, queue.ShutDown)
	watch := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { queue.Add(object) },
		UpdateFunc: func(_, object any) { queue.Add(object) },
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().PersistentVolumeClaims().Informer(),
		factory.Core().V1().PersistentVolumes().Informer(),
	} {
		if _, err := informer.AddEventHandler(watch); err != nil {
			log.Fatal(err)
		}
	}
	factory.Start(ctx.Done())
	for {
		object, stopped := queue.Get()
		if stopped {
			return
		}
		if err := l.handle(ctx, object); err != nil {
			log.Print(err)
			queue.AddRateLimited(object)
		} else {
			queue.Forget(object)
		}
		queue.Done(object)
	}
}

func (l local) handle(ctx context.Context, object any) error {
	ctx, done := context.WithTimeout(ctx, requestTimeout)
	defer done()
	switch object := object.(type) {
	case *core.PersistentVolumeClaim:
		if needsVolume(object) {
			return l.provision(ctx, object)
		}
	case *core.PersistentVolume:
		if isReleased(object) {
			return l.remove(ctx, object)
		}
	}
	return nil
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig of the API server")
	root := flag.String("root", "", "folder that contains one folder per node")
	flag.Parse()
	if *kubeconfig == "" || *root == "" {
		log.Fatal("-kubeconfig and -root are required")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	local{client, *root}.run(ctx)
}
