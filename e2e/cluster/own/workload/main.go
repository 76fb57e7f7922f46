// Command workload is what the self-test runs in pods. Without arguments it serves /healthz and, at /, the text in
// GREETING over HTTP on ADDRESS (:8080) until it is asked to stop; with arguments it is the tool for `kubectl exec`,
// because the image holds nothing else:
//
//	workload get URL          prints what the URL answers
//	workload read FILE
//	workload write FILE TEXT
//	workload fill FILE        writes until the file system refuses, and says after how much
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var err error
	if len(os.Args) == 1 {
		err = serve()
	} else {
		err = tool(os.Args[1], os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getenv("GREETING")) })
	return http.ListenAndServe(cmp.Or(os.Getenv("ADDRESS"), ":8080"), nil)
}

func tool(verb string, args []string) error {
	switch {
	case verb == "get" && len(args) == 1:
		return get(args[0])
	case verb == "read" && len(args) == 1:
		content, err := os.ReadFile(args[0])
		fmt.Print(string(content))
		return err
	case verb == "write" && len(args) == 2:
		return write(args[0], args[1])
	case verb == "fill" && len(args) == 1:
		return fill(args[0])
	}
	return errors.New("usage: workload [get URL | read FILE | write FILE TEXT | fill FILE]")
}

func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	reply, err := client.Get(url)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	_, err = io.Copy(os.Stdout, reply.Body)
	return err
}

// write returns when the text is on the disk: a snapshot taken afterwards must show it.
func write(name, text string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := fmt.Fprintln(file, text); err != nil {
		return err
	}
	return file.Sync()
}

func fill(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for mib := 0; ; mib++ {
		if _, err := file.Write(block); err != nil {
			return fmt.Errorf("after %d MiB: %w", mib, err)
		}
	}
}
