// Sumdbcheck checks a checkpoint and an inclusion proof with the code of Go's checksum database,
// which shares nothing with ours.
//
//	sumdbcheck VKEY CHECKPOINT PROOF ENTRY
//
// All four are files. It exits 0 if golang.org/x/mod/sumdb/note opens the checkpoint with the key
// and golang.org/x/mod/sumdb/tlog accepts the proof that the entry stands in it; otherwise 1.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: sumdbcheck VKEY CHECKPOINT PROOF ENTRY")
		os.Exit(2)
	}
	if err := check(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(vkeyFile, checkpointFile, proofFile, entryFile string) error {
	var files [4][]byte
	for i, name := range []string{vkeyFile, checkpointFile, proofFile, entryFile} {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files[i] = data
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(files[0])))
	if err != nil {
		return fmt.Errorf("vkey: %w", err)
	}
	checkpoint, err := note.Open(files[1], note.VerifierList(verifier))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	size, root, err := parseCheckpoint(checkpoint.Text, verifier.Name())
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	index, proof, err := parseProof(string(files[2]), string(files[1]))
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	return tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(files[3]))
}

// parseCheckpoint reads the body of a c2sp.org/tlog-checkpoint.
func parseCheckpoint(text, origin string) (int64, tlog.Hash, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] != origin || lines[3] != "" {
		return 0, tlog.Hash{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return size, root, err
}

// parseProof reads a c2sp.org/tlog-proof@v1 that ends with the given checkpoint.
func parseProof(text, checkpoint string) (int64, tlog.RecordProof, error) {
	tail := "\n\n" + checkpoint
	head, found := strings.TrimSuffix(text, tail), strings.HasSuffix(text, tail)
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return 0, nil, errors.New("not a tlog-proof of this checkpoint")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return 0, nil, err
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return 0, nil, err
		}
		proof = append(proof, hash)
	}
	return index, proof, nil
}
