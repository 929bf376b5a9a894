// Checks an unpacked export of a usage log with other people's code.
//
//	audit fsck <log folder> <file with the verifier key>       whole log: Tessera's fsck library
//	audit entry <proof> <entry> <file with the verifier key>   one entry: golang.org/x/mod/sumdb
//	audit grown <older checkpoint> <log folder> <verifier key> the log contains the older tree: golang.org/x/mod/sumdb
//	audit proofs <file>                                        proofs, one a line: golang.org/x/mod/sumdb
//
// Exit code 0: verified. 1: refused, with the reason on standard error. 3: wrong use.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const limit = 2 * time.Minute

func main() {
	if len(os.Args) < 2 {
		fail(3, errors.New("which check?"))
	}
	checks := map[string]func([]string) error{"fsck": checkLog, "entry": checkEntry, "grown": checkGrown, "proofs": checkProofs}
	check, arguments := checks[os.Args[1]], os.Args[2:]
	if check == nil {
		fail(3, errors.New("no such check"))
	}
	done := make(chan error, 1)
	go func() { done <- check(arguments) }()
	select {
	case err := <-done:
		if err != nil {
			fail(1, err)
		}
		fmt.Println("verified")
	// The library waits for ever when more tiles are wrong than it has workers.
	case <-time.After(limit):
		fail(1, errors.New("no answer in time"))
	}
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(code)
}

func checkLog(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("fsck <log folder> <verifier key>")
	}
	verifier, err := verifierIn(arguments[1])
	if err != nil {
		return err
	}
	source := &client.FileFetcher{Root: arguments[0]}
	return fsck.New(verifier.Name(), verifier, source, hashBundle, fsck.Opts{N: 16}).Check(context.Background())
}

func hashBundle(bundle []byte) ([][]byte, error) {
	entries := &api.EntryBundle{}
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

func checkEntry(arguments []string) error {
	if len(arguments) != 3 {
		return errors.New("entry <proof> <entry> <verifier key>")
	}
	proof, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(arguments[1])
	if err != nil {
		return err
	}
	verifier, err := verifierIn(arguments[2])
	if err != nil {
		return err
	}
	head, signed, found := strings.Cut(string(proof), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	var path tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		path = append(path, hash)
	}
	tree, err := openCheckpoint([]byte(signed), verifier)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

// checkGrown makes the consistency proof from the tiles of the log, so the older checkpoint and the tiles are all it needs.
func checkGrown(arguments []string) error {
	if len(arguments) != 3 {
		return errors.New("grown <older checkpoint> <log folder> <verifier key>")
	}
	verifier, err := verifierIn(arguments[2])
	if err != nil {
		return err
	}
	older, err := checkpointIn(arguments[0], verifier)
	if err != nil {
		return fmt.Errorf("older checkpoint: %w", err)
	}
	newer, err := checkpointIn(filepath.Join(arguments[1], "checkpoint"), verifier)
	if err != nil {
		return err
	}
	if older.N > newer.N {
		return errors.New("the log has shrunk")
	}
	tiles := tlog.TileHashReader(newer, folder(arguments[1]))
	proof, err := tlog.ProveTree(newer.N, older.N, tiles)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, newer.N, newer.Hash, older.N, older.Hash)
}

// checkProofs reads lines of kind, two numbers, two hashes and the proof, with a space between any two:
// inclusion <index> <size> <leaf hash> <root> ..., or consistency <from> <to> <older root> <newer root> ...
func checkProofs(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("proofs <file>")
	}
	file, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	count := 0
	for _, line := range strings.Split(strings.TrimSpace(string(file)), "\n") {
		if err := checkProof(strings.Fields(line)); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		count++
	}
	fmt.Println(count, "proofs")
	return nil
}

func checkProof(fields []string) error {
	if len(fields) < 5 {
		return errors.New("not a line of five fields")
	}
	first, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return err
	}
	var hashes []tlog.Hash
	for _, field := range fields[3:] {
		hash, err := tlog.ParseHash(field)
		if err != nil {
			return err
		}
		hashes = append(hashes, hash)
	}
	switch fields[0] {
	case "inclusion":
		return tlog.CheckRecord(hashes[2:], size, hashes[1], first, hashes[0])
	case "consistency":
		return tlog.CheckTree(hashes[2:], size, hashes[1], first, hashes[0])
	}
	return errors.New("no such proof")
}

// folder reads the tiles of a tlog-tiles folder; its paths are those of the checksum database without the tile height.
type folder string

func (f folder) Height() int { return 8 }

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		bytes, err := os.ReadFile(filepath.Join(string(f), filepath.FromSlash(path)))
		if err != nil {
			return nil, err
		}
		all = append(all, bytes)
	}
	return all, nil
}

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func verifierIn(path string) (note.Verifier, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(strings.TrimSpace(string(key)))
}

func checkpointIn(path string, verifier note.Verifier) (tlog.Tree, error) {
	signed, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	return openCheckpoint(signed, verifier)
}

// openCheckpoint verifies the note and reads origin, size and root; the checksum database's own ParseTree wants another first line.
func openCheckpoint(signed []byte, verifier note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := bytes.Split([]byte(opened.Text), []byte("\n"))
	if len(lines) != 4 || string(lines[0]) != verifier.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(string(lines[1]), 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(string(lines[2]))
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, errors.New("not a root")
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, nil
}
