package config

import (
	"fmt"
	"log/slog"
)

const redacted = "<secret>"

// Secret is a string that is never shown: however it is printed, logged or
// marshalled, it reads <secret>. The zero Secret is unset and prints empty.
//
// It holds a pointer so that even a print of an unexported struct field,
// where fmt cannot call methods, shows an address and not the value.
type Secret struct{ value *string }

// NewSecret returns a Secret that holds s; an empty s gives an unset one.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the value, for handing to a driver or an HTTP header and for
// nothing else.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet tells whether there is a value.
func (s Secret) IsSet() bool { return s.value != nil }

// Equal tells whether both hold the same value.
func (s Secret) Equal(o Secret) bool { return s.Reveal() == o.Reveal() }

// String returns <secret>, or nothing when unset.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter] for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText implements encoding.TextMarshaler, and so JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
