package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-sql-driver/mysql"
)

// record is lab.json: what a later command must know. It may hold passwords of
// given addresses, so only its owner can read it.
type record struct {
	Format     int            `json:"format"`
	Databases  []string       `json:"databases"`
	ConfigHash string         `json:"config_hash,omitempty"`
	Servers    []serverRecord `json:"servers"`
}

type serverRecord struct {
	Kind    Kind     `json:"kind"`
	Version Version  `json:"version"`
	Addr    string   `json:"addr"`
	DSN     string   `json:"dsn,omitempty"`
	Origin  string   `json:"origin"`
	Given   bool     `json:"given,omitempty"`
	Fast    bool     `json:"fast,omitempty"`
	Process identity `json:"process"`
	Install install  `json:"install"`
}

const (
	recordFile   = "lab.json"
	recordFormat = 1
)

func (l *Lab) write() error {
	r := record{Format: recordFormat, Databases: l.Databases, ConfigHash: l.configHash}
	for _, s := range l.Servers() {
		sr := serverRecord{Kind: s.Kind, Version: s.version, Addr: s.addr, Origin: s.Origin,
			Given: s.external, Fast: s.opts.Fast, Install: s.in}
		if s.base != nil {
			sr.DSN = s.base.FormatDSN()
		}
		if s.proc != nil {
			sr.Process = s.proc.id
		}
		r.Servers = append(r.Servers, sr)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(l.Dir, recordFile), append(text, '\n'), 0o600)
}

// readLab has the lab of a folder, with handles on servers that may have ended.
func readLab(dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s; start one with `crossfade lab up`", ErrNoLab, dir, recordFile)
	}
	if err != nil {
		return nil, err
	}
	var r record
	err = json.Unmarshal(text, &r)
	if err == nil && (r.Format != recordFormat || len(r.Databases) == 0) {
		err = fmt.Errorf("format %d with %d databases", r.Format, len(r.Databases))
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not of this release (%w); end its servers by the crossfade that wrote it, or remove it",
			filepath.Join(dir, recordFile), err)
	}
	l := &Lab{Dir: dir, Databases: r.Databases, servers: map[Kind]*Server{}, configHash: r.ConfigHash}
	for _, sr := range r.Servers {
		s, err := sr.adopt(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, recordFile), err)
		}
		l.servers[sr.Kind] = s
	}
	return l, nil
}

func (sr serverRecord) adopt(dir string) (*Server, error) {
	s := &Server{Kind: sr.Kind, Origin: sr.Origin, version: sr.Version, addr: sr.Addr,
		external: sr.Given, in: sr.Install}
	if sr.DSN != "" {
		var err error
		if s.base, err = mysql.ParseDSN(sr.DSN); err != nil {
			return nil, err
		}
	}
	if !sr.Given {
		_, port, err := net.SplitHostPort(sr.Addr)
		if err != nil {
			return nil, err
		}
		s.Dir = filepath.Join(dir, string(sr.Kind))
		s.opts = Options{Dir: s.Dir, Fast: sr.Fast, Detached: true}
		s.place = &place{dir: s.Dir}
		s.place.port, _ = strconv.Atoi(port)
		s.proc = &process{id: sr.Process}
	}
	return s, nil
}
