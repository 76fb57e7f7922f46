package main

import (
	"context"
	"os"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	var reply csi.NodeGetCapabilitiesResponse
	for _, can := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		reply.Capabilities = append(reply.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: can}},
		})
	}
	return &reply, nil
}

// NodeStageVolume mounts the volume once for all its pods, and grows what could not grow while it was mounted.
func (d *driver) NodeStageVolume(_ context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if request.VolumeId == "" || request.StagingTargetPath == "" || request.VolumeCapability == nil {
		return nil, status.Error(codes.InvalidArgument, "which volume, where, and how?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	volume, err := d.volume(request.VolumeId)
	if err != nil {
		return nil, err
	}
	if mounted, err := isMounted(request.StagingTargetPath); err != nil || mounted {
		return &csi.NodeStageVolumeResponse{}, err
	}
	image := d.disks.image(volumes, volume.ID)
	if err := grow(image, volume.Bytes); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(request.StagingTargetPath, 0o750); err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, run("mount", "-t", "ext4", "-o", "loop", image, request.StagingTargetPath)
}

func (d *driver) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if request.VolumeId == "" || request.StagingTargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume, and where?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	return &csi.NodeUnstageVolumeResponse{}, unmount(request.StagingTargetPath)
}

// NodePublishVolume shows the staged volume to one pod; with ReadWriteOncePod, to no second one.
func (d *driver) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	staged, target := request.StagingTargetPath, request.TargetPath
	if request.VolumeId == "" || target == "" || staged == "" || request.VolumeCapability == nil {
		return nil, status.Error(codes.InvalidArgument, "which volume, from where to where, and how?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	if _, err := d.volume(request.VolumeId); err != nil {
		return nil, err
	}
	mounts, err := mountsOf(loopDevice(d.disks.image(volumes, request.VolumeId)))
	if err != nil {
		return nil, err
	}
	if slices.Contains(mounts, target) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	others := slices.DeleteFunc(mounts, func(at string) bool { return at == staged })
	mode := request.VolumeCapability.GetAccessMode().GetMode()
	if mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER && len(others) > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "in use at %v", others)
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, err
	}
	if err := run("mount", "--bind", staged, target); err != nil {
		return nil, err
	}
	if request.Readonly {
		return &csi.NodePublishVolumeResponse{}, run("mount", "-o", "remount,bind,ro", target)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if request.VolumeId == "" || request.TargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume, and where?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	if err := unmount(request.TargetPath); err != nil {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, os.RemoveAll(request.TargetPath)
}

// NodeExpandVolume grows the mounted file system. The kernel wants CAP_SYS_RESOURCE for that; a root without it has the
// volume grown when it is staged again, which is when its pod is made anew.
func (d *driver) NodeExpandVolume(_ context.Context, request *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if request.VolumeId == "" || request.VolumePath == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume, and where?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	volume, err := d.volume(request.VolumeId)
	if err != nil {
		return nil, err
	}
	image := d.disks.image(volumes, volume.ID)
	have, err := fileSystemBytes(image)
	if err != nil {
		return nil, err
	}
	if device := loopDevice(image); device != "" && have < volume.Bytes {
		if err := run("losetup", "--set-capacity", device); err != nil {
			return nil, err
		}
		if err := run("resize2fs", device); err != nil {
			return nil, status.Errorf(codes.FailedPrecondition, "it grows when it is staged again: %v", err)
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: volume.Bytes}, nil
}

func (d *driver) NodeGetVolumeStats(_ context.Context, request *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if request.VolumeId == "" || request.VolumePath == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume, and where?")
	}
	if _, err := d.volume(request.VolumeId); err != nil {
		return nil, err
	}
	var space unix.Statfs_t
	if err := unix.Statfs(request.VolumePath, &space); err != nil {
		return nil, status.Errorf(codes.NotFound, "%s: %v", request.VolumePath, err)
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{
			Unit:      csi.VolumeUsage_BYTES,
			Total:     int64(space.Blocks) * space.Bsize,
			Available: int64(space.Bavail) * space.Bsize,
			Used:      int64(space.Blocks-space.Bfree) * space.Bsize,
		},
		{
			Unit:      csi.VolumeUsage_INODES,
			Total:     int64(space.Files),
			Available: int64(space.Ffree),
			Used:      int64(space.Files - space.Ffree),
		},
	}}, nil
}
