package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// faults is a directory in which a file named after a call, such as CreateSnapshot, says in a line what becomes of it:
//
//	fail RESOURCE_EXHAUSTED the pool is full    the call fails with this code and text
//	hang                                        no reply until the caller gives up
//	delay 5s                                    the call waits first
//	notready 8s                                 CreateSnapshot alone: taken, but ready to use only then
//
// `once` before any of them removes the file when the call has met it. A line that is none of these fails the call and
// says so, because a test that injects nothing proves nothing.
type faults string

type fault struct {
	kind  string
	code  codes.Code
	text  string
	after time.Duration
}

// unready is how a fault reaches the one call that does something itself about it.
type unready struct{}

func (f faults) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	call := path.Base(info.FullMethod)
	var reply any
	fault, err := f.meet(call)
	if err == nil {
		ctx, err = fault.apply(ctx)
	}
	if err == nil {
		reply, err = next(ctx, request)
	}
	if !asked[call] {
		log.Printf("%s {%v}: %v", call, request, err)
	}
	return reply, err
}

// asked are calls that the kubelet repeats all the time; the log is easier to read without them.
var asked = map[string]bool{"Probe": true, "NodeGetCapabilities": true, "NodeGetVolumeStats": true}

func (f faults) meet(call string) (fault, error) {
	if f == "" {
		return fault{}, nil
	}
	file := filepath.Join(string(f), call)
	line, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fault{}, nil
	} else if err != nil {
		return fault{}, status.Error(codes.Internal, err.Error())
	}
	words := strings.Fields(string(line))
	if len(words) > 0 && words[0] == "once" {
		words = words[1:]
		if err := os.Remove(file); err != nil {
			return fault{}, status.Error(codes.Internal, err.Error())
		}
	}
	parsed, err := parseFault(words)
	if err == nil && parsed.kind == "notready" && call != "CreateSnapshot" {
		err = errors.New("notready is for CreateSnapshot")
	}
	if err != nil {
		return fault{}, status.Errorf(codes.Internal, "fault file of %s: %v", call, err)
	}
	return parsed, nil
}

func parseFault(words []string) (fault, error) {
	if len(words) == 0 {
		return fault{}, errors.New("empty")
	}
	parsed := fault{kind: words[0]}
	var err error
	switch {
	case words[0] == "fail" && len(words) > 2:
		err = parsed.code.UnmarshalJSON([]byte(`"` + words[1] + `"`))
		parsed.text = strings.Join(words[2:], " ")
	case words[0] == "hang" && len(words) == 1:
	case (words[0] == "delay" || words[0] == "notready") && len(words) == 2:
		parsed.after, err = time.ParseDuration(words[1])
	default:
		err = fmt.Errorf("%q is not a fault", strings.Join(words, " "))
	}
	return parsed, err
}

func (f fault) apply(ctx context.Context) (context.Context, error) {
	switch f.kind {
	case "fail":
		return ctx, status.Error(f.code, f.text)
	case "hang":
		<-ctx.Done()
		return ctx, status.FromContextError(ctx.Err()).Err()
	case "delay":
		select {
		case <-time.After(f.after):
		case <-ctx.Done():
			return ctx, status.FromContextError(ctx.Err()).Err()
		}
	case "notready":
		return context.WithValue(ctx, unready{}, f.after), nil
	}
	return ctx, nil
}
