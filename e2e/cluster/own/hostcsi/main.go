// Command hostcsi is a CSI driver for a cluster of one node whose disks are files.
//
// A volume is a sparse file with an ext4 file system, mounted through a loop device, so its size is enforced. A
// snapshot is a copy of that file taken while the file system is frozen, so it is one point in time. Volumes can be
// made from a snapshot or from another volume, and grown. Files in a directory make a call fail, hang or wait: see
// faults.go.
//
// It leaves out block volumes, more than one node, and topology. It registers itself with the kubelet and needs no
// attacher.
package main

import (
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// driver answers the three services of CSI. What changes files or mounts holds the lock.
type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer

	name, node string
	disks      disks
	faults     faults
	lock       sync.Mutex
}

func main() {
	var d driver
	flag.StringVar(&d.name, "driver", "hostcsi.test", "name of the driver")
	flag.StringVar(&d.node, "node", "node", "name of the node")
	data := flag.String("data", "/var/lib/hostcsi", "directory of the volumes and snapshots")
	faultFiles := flag.String("faults", "", "directory of fault files; empty: no faults")
	socket := flag.String("socket", "/var/lib/kubelet/plugins/hostcsi.test/csi.sock", "where to serve CSI")
	registrar := flag.String("registration-socket", "", "where the kubelet looks for plug-ins; empty: do not register")
	flag.Parse()
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)

	d.disks, d.faults = disks(*data), faults(*faultFiles)
	must(d.disks.prepare())
	services := grpc.NewServer(grpc.UnaryInterceptor(d.faults.intercept))
	csi.RegisterIdentityServer(services, &d)
	csi.RegisterControllerServer(services, &d)
	csi.RegisterNodeServer(services, &d)
	go serve(services, *socket)
	if *registrar != "" {
		plugins := grpc.NewServer()
		registration.RegisterRegistrationServer(plugins, &plugin{driver: d.name, endpoint: *socket})
		go serve(plugins, *registrar)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	// The kubelet forgets the driver when this one goes.
	_ = os.Remove(*registrar)
	_ = os.Remove(*socket)
}

// serve takes the place of a socket that a killed driver left.
func serve(services *grpc.Server, socket string) {
	must(os.MkdirAll(filepath.Dir(socket), 0o700))
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	must(err)
	must(services.Serve(listener))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
