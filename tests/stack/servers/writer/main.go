// Command etcd-writer is what the bridge's speed is measured against: a bare client of etcd.
//
//	etcd-writer write ENDPOINT FILE OPS INFLIGHT   writes the file's keys, OPS to a transaction
//	etcd-writer read ENDPOINT PREFIX               reads all keys below a prefix by one Range
//	etcd-writer dump ENDPOINT PREFIX FILE          the same, into such a file
//
// FILE holds key and value in turn, each with its length before it (4 bytes, big endian). All print one
// line of JSON: how many keys, the seconds that it took, and the seconds of this process's CPU.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: etcd-writer (write ENDPOINT FILE OPS INFLIGHT | read ENDPOINT PREFIX | dump ENDPOINT PREFIX FILE)")
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{args[1]}, DialTimeout: 10 * time.Second, MaxCallRecvMsgSize: 1 << 30,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	// The connection is made before the clock starts.
	if _, err := client.Get(context.Background(), "none", clientv3.WithCountOnly()); err != nil {
		return err
	}
	if args[0] != "write" {
		var found *clientv3.GetResponse
		err := timed(func() (int, error) {
			found, err = client.Get(context.Background(), args[2], clientv3.WithPrefix())
			if err != nil {
				return 0, err
			}
			return len(found.Kvs), nil
		})
		if err != nil || args[0] == "read" {
			return err
		}
		return dump(found, args[3])
	}
	ops, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	inflight, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	entries, err := entriesOf(args[2])
	if err != nil {
		return err
	}
	return timed(func() (int, error) { return len(entries) / 2, write(client, entries, ops, inflight) })
}

func write(client *clientv3.Client, entries []string, ops, inflight int) error {
	batches := make(chan []clientv3.Op)
	failed := make(chan error, inflight)
	var workers sync.WaitGroup
	for range inflight {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for batch := range batches {
				if _, err := client.Txn(context.Background()).Then(batch...).Commit(); err != nil {
					failed <- err
					for range batches {
					}
					return
				}
			}
		}()
	}
	batch := make([]clientv3.Op, 0, ops)
	for at := 0; at < len(entries); at += 2 {
		if batch = append(batch, clientv3.OpPut(entries[at], entries[at+1])); len(batch) == ops {
			batches <- batch
			batch = make([]clientv3.Op, 0, ops)
		}
	}
	if len(batch) > 0 {
		batches <- batch
	}
	close(batches)
	workers.Wait()
	close(failed)
	return <-failed
}

func dump(found *clientv3.GetResponse, path string) error {
	var data []byte
	for _, kv := range found.Kvs {
		for _, text := range [][]byte{kv.Key, kv.Value} {
			data = append(binary.BigEndian.AppendUint32(data, uint32(len(text))), text...)
		}
	}
	return os.WriteFile(path, data, 0o600)
}

func entriesOf(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries []string
	for len(data) >= 4 {
		size := int(binary.BigEndian.Uint32(data))
		if len(data) < 4+size {
			return nil, fmt.Errorf("%s ends within an entry", path)
		}
		entries, data = append(entries, string(data[4:4+size])), data[4+size:]
	}
	return entries, nil
}

func timed(work func() (int, error)) error {
	began, cpu := time.Now(), used()
	keys, err := work()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"keys": keys, "seconds": time.Since(began).Seconds(), "cpu": (used() - cpu).Seconds(),
	})
}

func used() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
