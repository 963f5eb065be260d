package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/etcdstore"
)

// maxPasswordFile bounds a password's file, in bytes: a larger one is not one.
const maxPasswordFile = 4096

// Used tells whether anything of it is configured.
func (e *Etcd) Used() bool {
	return len(e.Endpoints) > 0 || e.Prefix+e.Username+e.Password+e.PasswordFile+e.TLSCA+e.TLSCert+e.TLSKey != "" || e.TLS
}

func (c *Control) check() error {
	if err := killswitch.CheckLease("control.lease", time.Duration(c.Lease)); err != nil {
		return err
	}
	e := &c.Etcd
	if !e.Used() {
		return nil
	}
	if c.Dir != "" {
		return &backends.FieldError{Field: "control", Value: "both dir and etcd", Bound: "exactly one control store", Next: "leave control.dir out for a fleet, or control.etcd for one machine"}
	}
	if c.OneHost {
		return &backends.FieldError{Field: "control.one_host", Value: "true with control.etcd", Bound: "false, or a folder as control store", Next: "leave it out: whoever names the same etcd shares it"}
	}
	for _, u := range e.Endpoints {
		if err := checkEndpoint(u); err != nil {
			return err
		}
	}
	if e.Password != "" && e.PasswordFile != "" {
		return &backends.FieldError{Field: "control.etcd.password and control.etcd.password_file", Value: "both", Bound: "one of them at most", Next: "leave one out"}
	}
	if (e.TLSCert == "") != (e.TLSKey == "") {
		return &backends.FieldError{Field: "control.etcd.tls_cert and control.etcd.tls_key", Value: "only one of them", Bound: "both or none", Next: "name the file with the private key too"}
	}
	password := e.Password
	if e.PasswordFile != "" {
		password = "in a file"
	}
	s, err := etcdstore.Open(etcdstore.Options{Endpoints: e.Endpoints, Prefix: e.Prefix, Username: e.Username, Password: password})
	if err != nil {
		return fmt.Errorf("control.%w", err)
	}
	return s.Close() // it has not connected to anything
}

func checkEndpoint(text string) error {
	host := text
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" {
			return &backends.FieldError{Field: "control.etcd.endpoints", Value: strconv.Quote(text), Bound: "host:port, or a URL with http or https", Next: "write it like 10.0.0.1:2379"}
		}
		host = u.Host
	}
	return checkListen("control.etcd.endpoints", host, false)
}

// secure tells whether the connections are by TLS.
func (e *Etcd) secure() bool {
	https := false
	for _, u := range e.Endpoints {
		https = https || strings.HasPrefix(u, "https://")
	}
	return e.TLS || https || e.TLSCA+e.TLSCert != ""
}

// Options of the store; c resolves the names of files.
func (e *Etcd) Options(c *Config) (etcdstore.Options, error) {
	o := etcdstore.Options{Endpoints: e.Endpoints, Prefix: e.Prefix, Username: e.Username, Password: e.Password}
	if e.PasswordFile != "" {
		text, err := os.ReadFile(c.Path(e.PasswordFile))
		if err == nil && len(text) > maxPasswordFile {
			err = fmt.Errorf("it has %d bytes", len(text))
		}
		if o.Password = strings.TrimSpace(string(text)); err == nil && o.Password == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			return o, &backends.FieldError{Field: "control.etcd.password_file", Value: "not usable (" + err.Error() + ")", Bound: fmt.Sprintf("a file with the password, at most %d bytes", maxPasswordFile), Next: "name it by its path from the configuration's folder"}
		}
	}
	if !e.secure() {
		return o, nil
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if e.TLSCA != "" {
		o.TLS.RootCAs = x509.NewCertPool()
		text, err := os.ReadFile(c.Path(e.TLSCA))
		if err == nil && !o.TLS.RootCAs.AppendCertsFromPEM(text) {
			err = errors.New("it has no certificate")
		}
		if err != nil {
			return o, &backends.FieldError{Field: "control.etcd.tls_ca", Value: "not usable (" + err.Error() + ")", Bound: "a PEM file with the certificates of authorities", Next: "name it by its path from the configuration's folder"}
		}
	}
	if e.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.Path(e.TLSCert), c.Path(e.TLSKey))
		if err != nil {
			return o, &backends.FieldError{Field: "control.etcd.tls_cert and control.etcd.tls_key", Value: "not usable (" + err.Error() + ")", Bound: "two PEM files that belong together", Next: "name them by their paths from the configuration's folder, or leave both out"}
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	return o, nil
}
