package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var sourceTLSTable = table[TLS]{
	fields: map[string]func(node, *TLS){
		"ca_file":     func(n node, t *TLS) { n.fileName(&t.CAFile) },
		"cert_file":   func(n node, t *TLS) { n.fileName(&t.CertFile) },
		"key_file":    func(n node, t *TLS) { n.fileName(&t.KeyFile) },
		"server_name": func(n node, t *TLS) { n.expand(&t.ServerName) },
	},
	refused: map[string]refusal{
		"insecure_skip_verify": {"is spelled sslmode for a database", "delete it; sslmode: require encrypts without verifying"},
	},
}

// aloneWithDSN reports the fields that a data_source_name holds already.
func (s *source) aloneWithDSN() {
	for _, f := range []string{"host", "port", "addresses", "user", "database", "sslmode", "tls_config"} {
		if s.has(f) {
			s.at(f).fail("stands beside data_source_name, which holds it already", "keep one of the two")
		}
	}
}

// finishAddress fills in host, port and instance, and checks them.
func (s *source) finishAddress(port int) {
	if len(s.Addresses) > 0 {
		s.exclusive("addresses", "host")
		s.exclusive("addresses", "port")
		for i, a := range s.Addresses {
			if !strings.Contains(a, ":") {
				s.Addresses[i] = net.JoinHostPort(a, strconv.Itoa(port))
			}
		}
		if s.Instance == "" {
			s.Instance = s.Addresses[0]
		}
		return
	}
	if s.Host == "" {
		s.Host = defaultHost
	}
	if s.Port == 0 {
		s.Port = port
	}
	switch {
	case strings.Contains(s.Host, "://"):
		s.at("host").fail("is a URL", "write it as data_source_name, or the host's name only")
	case strings.Count(s.Host, ":") == 1 && !strings.HasPrefix(s.Host, "/"):
		s.at("host").fail("holds a port", "write the port as port")
	}
	if s.Instance == "" {
		s.Instance = net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	}
}

// finishTLS reads tls_config as a database has it, and fills in sslmode. With a
// data_source_name there is none.
func (s *source) finishTLS() {
	if s.has("tls_config") {
		s.tls = decode(s.at("tls_config"), sourceTLSTable, &s.TLS)
	}
	if s.has("data_source_name") {
		return
	}
	if s.tls.has("cert_file") != s.tls.has("key_file") {
		s.at("tls_config").fail("has one of cert_file and key_file", "write both, or delete it")
	}
	if s.TLS.Mode == "disable" && s.has("tls_config") {
		s.at("tls_config").fail("stands beside sslmode: disable", "keep one of the two")
	}
	switch {
	case s.TLS.Mode != "":
	case s.TLS.CAFile != "":
		s.TLS.Mode = "verify-full"
	default:
		s.TLS.Mode = "prefer"
	}
}

// finishFixedTLS is finishTLS for a protocol that has no way to ask server
// whether it encrypts, so that nothing is left to it.
func (s *source) finishFixedTLS(server string) {
	written := s.TLS.Mode
	switch {
	case written == "allow" || written == "prefer":
		s.at("sslmode").fail("is "+written+", and "+server+" cannot be asked whether it encrypts", "write disable, require, verify-ca or verify-full")
	case written == "" && s.has("tls_config"):
		s.TLS.Mode = "verify-full"
	case written == "":
		s.TLS.Mode = "disable"
		return
	}
	s.finishTLS()
}

// port sets *into to a port, which may come from the environment.
func (n node) port(into *int) {
	var s string
	if n.expand(&s); s == "" {
		return
	}
	port, err := strconv.Atoi(s)
	if err != nil || port < 1 || port > 65535 {
		n.fail("is not a port", "write a number from 1 to 65535")
		return
	}
	*into = port
}

// words returns a list of texts that are taken as they are written.
func (n node) words() []string {
	var words []string
	for _, e := range n.texts() {
		words = append(words, e.key)
	}
	return words
}

// command returns a program and its arguments.
func (n node) command() []string {
	words := n.words()
	if n.yaml.Kind == yaml.SequenceNode && len(n.yaml.Content) == 0 {
		n.fail("names no program", "write a list: the program and its arguments")
	}
	return words
}

// addresses returns a list of host or host:port, which may come from the
// environment.
func (n node) addresses() []string {
	var addresses []string
	for _, item := range n.list() {
		var a string
		item.expand(&a)
		if host, port, found := strings.Cut(a, ":"); strings.Contains(a, "://") || found && (host == "" || !isPort(port)) && !strings.HasPrefix(a, "[") {
			item.fail(fmt.Sprintf("%q is not an address", a), "write host:port, or the host's name only")
			continue
		}
		if a != "" {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

func isPort(s string) bool {
	port, err := strconv.Atoi(s)
	return err == nil && 0 < port && port < 65536
}
