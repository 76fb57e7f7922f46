package main

import (
	"context"
	"os"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	mib          = int64(1) << 20
	minBytes     = 16 * mib // below this mkfs leaves no journal
	defaultBytes = 64 * mib
	maxBytes     = int64(1) << 40
)

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var reply csi.ControllerGetCapabilitiesResponse
	for _, can := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		reply.Capabilities = append(reply.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: can}},
		})
	}
	return &reply, nil
}

func (d *driver) CreateVolume(_ context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if request.Name == "" || len(request.VolumeCapabilities) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a volume needs a name and capabilities")
	}
	if problem := unsupported(request.VolumeCapabilities); problem != "" {
		return nil, status.Error(codes.InvalidArgument, problem)
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	sourceKind, source, err := d.sourceOf(request.VolumeContentSource)
	if err != nil {
		return nil, err
	}
	wanted := &disk{ID: "vol-" + idOf(request.Name), Created: time.Now()}
	least := defaultBytes
	if source != nil {
		wanted.Source, least = source.ID, source.Bytes
	}
	if wanted.Bytes, err = bytesIn(request.CapacityRange, least); err != nil {
		return nil, err
	}
	if source != nil && wanted.Bytes < source.Bytes {
		return nil, status.Error(codes.OutOfRange, "smaller than its source")
	}
	volume, err := d.disks.load(volumes, wanted.ID)
	if err != nil {
		return nil, err
	}
	if volume == nil {
		volume = wanted
		err = d.disks.create(volumes, volume, func(image string) error {
			if source == nil {
				return makeFileSystem(image, volume.Bytes)
			}
			from := d.disks.image(sourceKind, source.ID)
			if err := frozen(from, func() error { return copySparse(from, image) }); err != nil {
				return err
			}
			return grow(image, volume.Bytes)
		})
	} else if volume.Source != wanted.Source || !within(request.CapacityRange, volume.Bytes) {
		err = status.Error(codes.AlreadyExists, "there is one of this name and of another size or source")
	}
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: volume.ID, CapacityBytes: volume.Bytes, ContentSource: request.VolumeContentSource,
	}}, nil
}

// sourceOf finds what a new volume is filled from; nothing when it is to be empty.
func (d *driver) sourceOf(content *csi.VolumeContentSource) (kind, *disk, error) {
	var from kind
	var id string
	switch {
	case content.GetSnapshot() != nil:
		from, id = snapshots, content.GetSnapshot().SnapshotId
	case content.GetVolume() != nil:
		from, id = volumes, content.GetVolume().VolumeId
	default:
		return "", nil, nil
	}
	source, err := d.disks.load(from, id)
	if err == nil && source == nil {
		err = status.Errorf(codes.NotFound, "there is no %q among the %s", id, from)
	}
	return from, source, err
}

// bytesIn chooses a size in whole MiB.
func bytesIn(limits *csi.CapacityRange, otherwise int64) (int64, error) {
	bytes := limits.GetRequiredBytes()
	if bytes == 0 {
		bytes = otherwise
	}
	if bytes > maxBytes {
		return 0, status.Error(codes.OutOfRange, "larger than 1 TiB")
	}
	bytes = (max(bytes, minBytes) + mib - 1) / mib * mib
	if !within(limits, bytes) {
		return 0, status.Error(codes.OutOfRange, "the limit is too low")
	}
	return bytes, nil
}

func within(limits *csi.CapacityRange, bytes int64) bool {
	limit := limits.GetLimitBytes()
	return bytes >= limits.GetRequiredBytes() && (limit == 0 || bytes <= limit)
}

func (d *driver) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if request.VolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	mounts, err := mountsOf(loopDevice(d.disks.image(volumes, request.VolumeId)))
	if err != nil {
		return nil, err
	}
	if len(mounts) > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "mounted at %v", mounts)
	}
	return &csi.DeleteVolumeResponse{}, d.disks.remove(volumes, request.VolumeId)
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if request.VolumeId == "" || len(request.VolumeCapabilities) == 0 {
		return nil, status.Error(codes.InvalidArgument, "which volume, and which capabilities?")
	}
	if _, err := d.volume(request.VolumeId); err != nil {
		return nil, err
	}
	if problem := unsupported(request.VolumeCapabilities); problem != "" {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: problem}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeCapabilities: request.VolumeCapabilities,
	}}, nil
}

// unsupported says what is asked in vain, or nothing.
func unsupported(capabilities []*csi.VolumeCapability) string {
	for _, capability := range capabilities {
		if capability.GetBlock() != nil {
			return "block volumes are not supported"
		}
		switch capability.GetAccessMode().GetMode() {
		case csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER,
			csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
			csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
			return "there is one node only"
		}
	}
	return ""
}

// ControllerExpandVolume makes the file larger; the node then makes the file system larger.
func (d *driver) ControllerExpandVolume(_ context.Context, request *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if request.VolumeId == "" || request.CapacityRange == nil {
		return nil, status.Error(codes.InvalidArgument, "which volume, and which size?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	volume, err := d.volume(request.VolumeId)
	if err != nil {
		return nil, err
	}
	bytes, err := bytesIn(request.CapacityRange, volume.Bytes)
	if err != nil {
		return nil, err
	}
	if bytes > volume.Bytes {
		if err := os.Truncate(d.disks.image(volumes, volume.ID), bytes); err != nil {
			return nil, err
		}
		volume.Bytes = bytes
		if err := d.disks.save(volumes, volume); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: volume.Bytes, NodeExpansionRequired: true}, nil
}

// volume loads one that must exist.
func (d *driver) volume(id string) (*disk, error) {
	found, err := d.disks.load(volumes, id)
	if err == nil && found == nil {
		err = status.Errorf(codes.NotFound, "there is no volume %q", id)
	}
	return found, err
}
