package main

import (
	"context"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (d *driver) CreateSnapshot(ctx context.Context, request *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if request.Name == "" || request.SourceVolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "a snapshot needs a name and a volume")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	id := "snap-" + idOf(request.Name)
	snapshot, err := d.disks.load(snapshots, id)
	if err != nil {
		return nil, err
	}
	if snapshot == nil {
		snapshot, err = d.take(ctx, id, request.SourceVolumeId)
	} else if snapshot.Source != request.SourceVolumeId {
		err = status.Error(codes.AlreadyExists, "there is one of this name and of another volume")
	}
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: shown(snapshot)}, nil
}

func (d *driver) take(ctx context.Context, id, volumeID string) (*disk, error) {
	volume, err := d.volume(volumeID)
	if err != nil {
		return nil, err
	}
	snapshot := &disk{ID: id, Bytes: volume.Bytes, Source: volume.ID}
	from := d.disks.image(volumes, volume.ID)
	err = d.disks.create(snapshots, snapshot, func(image string) error {
		return frozen(from, func() error {
			snapshot.Created = time.Now()
			if wait, faulty := ctx.Value(unready{}).(time.Duration); faulty {
				snapshot.ReadyAt = snapshot.Created.Add(wait)
			}
			return copySparse(from, image)
		})
	})
	return snapshot, err
}

func (d *driver) DeleteSnapshot(_ context.Context, request *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if request.SnapshotId == "" {
		return nil, status.Error(codes.InvalidArgument, "which snapshot?")
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	return &csi.DeleteSnapshotResponse{}, d.disks.remove(snapshots, request.SnapshotId)
}

// ListSnapshots counts for its token: where the next page starts.
func (d *driver) ListSnapshots(_ context.Context, request *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	all, err := d.disks.list(snapshots)
	if err != nil {
		return nil, err
	}
	var entries []*csi.ListSnapshotsResponse_Entry
	for _, snapshot := range all {
		if (request.SnapshotId == "" || request.SnapshotId == snapshot.ID) &&
			(request.SourceVolumeId == "" || request.SourceVolumeId == snapshot.Source) {
			entries = append(entries, &csi.ListSnapshotsResponse_Entry{Snapshot: shown(snapshot)})
		}
	}
	start := 0
	if request.StartingToken != "" {
		start, err = strconv.Atoi(request.StartingToken)
		if err != nil || start < 0 || start > len(entries) {
			return nil, status.Error(codes.Aborted, "no such token")
		}
	}
	reply := &csi.ListSnapshotsResponse{Entries: entries[start:]}
	if most := int(request.MaxEntries); most > 0 && most < len(reply.Entries) {
		reply.Entries, reply.NextToken = reply.Entries[:most], strconv.Itoa(start+most)
	}
	return reply, nil
}

func shown(snapshot *disk) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId:     snapshot.ID,
		SourceVolumeId: snapshot.Source,
		SizeBytes:      snapshot.Bytes,
		CreationTime:   timestamppb.New(snapshot.Created),
		ReadyToUse:     !time.Now().Before(snapshot.ReadyAt),
	}
}
