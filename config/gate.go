package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Requires is what has to hold of a server for a query to be run on it. A
// query whose gate is closed is passed over, which is no failure: its series
// end. The zero value asks for nothing.
type Requires struct {
	Role       Role     // empty: any
	Extensions []string // all have to be installed in the database
	Version    VersionRange
}

// IsZero tells whether r asks for nothing.
func (r Requires) IsZero() bool {
	return r.Role == "" && len(r.Extensions) == 0 && len(r.Version.Bounds) == 0
}

// Role is a server's part in replication.
type Role string

// The values of requires.role.
const (
	RolePrimary Role = "primary" // takes writes; a server without replication is one too
	RoleReplica Role = "replica"
)

// VersionRange is server_version: a server is in it if all bounds hold.
type VersionRange struct {
	// Product is mysql or mariadb where the range is of one of the two, whose
	// versions are not comparable; empty: of any.
	Product string
	Bounds  []VersionBound
}

// VersionBound is one condition such as >=14.
type VersionBound struct {
	Operator string // >=, >, <=, <, = or !=
	Parts    []int  // at least one
}

// Holds tells whether the version that a server says it has, such as
// 10.11.6-MariaDB-0+deb12u1, is in r. What stands in it before the first digit
// and behind the number is ignored.
func (r VersionRange) Holds(version string) bool {
	parts := versionParts(version)
	for _, b := range r.Bounds {
		if len(parts) == 0 || !b.holds(parts) {
			return false
		}
	}
	return true
}

// holds compares as many parts as the bound is written with: 14.5 is =14, is
// <=14 and is not >14.
func (b VersionBound) holds(version []int) bool {
	order := 0
	for i, part := range b.Parts {
		has := 0
		if i < len(version) {
			has = version[i]
		}
		if order = has - part; order != 0 {
			break
		}
	}
	switch b.Operator {
	case ">=":
		return order >= 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	case "<":
		return order < 0
	case "!=":
		return order != 0
	}
	return order == 0
}

// String returns the range as it may be written.
func (r VersionRange) String() string {
	var words []string
	if r.Product != "" {
		words = append(words, r.Product)
	}
	for _, b := range r.Bounds {
		word := b.Operator
		for i, part := range b.Parts {
			if i > 0 {
				word += "."
			}
			word += strconv.Itoa(part)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// versionParts returns the numbers of the version with which s begins, behind
// what is no digit.
func versionParts(s string) []int {
	start := strings.IndexAny(s, "0123456789")
	if start < 0 {
		return nil
	}
	var parts []int
	for {
		end := start
		for end < len(s) && '0' <= s[end] && s[end] <= '9' {
			end++
		}
		part, err := strconv.Atoi(s[start:end])
		if err != nil {
			return parts
		}
		parts = append(parts, part)
		if end == len(s) || s[end] != '.' {
			return parts
		}
		start = end + 1
	}
}

// ParseVersionRange reads a range such as >=13 <16 or mariadb >=10.5.
func ParseVersionRange(s string) (VersionRange, error) {
	var r VersionRange
	words := strings.Fields(s)
	if len(words) > 0 && (words[0] == "mysql" || words[0] == "mariadb") {
		r.Product, words = words[0], words[1:]
	}
	for _, word := range words {
		number := strings.TrimLeft(word, "<>=!")
		b := VersionBound{Operator: word[:len(word)-len(number)], Parts: versionParts(number)}
		switch b.Operator {
		case ">=", ">", "<=", "<", "=", "!=":
		default:
			return VersionRange{}, fmt.Errorf("%q does not begin with >=, >, <=, <, = or !=", word)
		}
		if written := (VersionRange{Bounds: []VersionBound{b}}).String(); written != word {
			return VersionRange{}, fmt.Errorf("%q holds no version", word)
		}
		r.Bounds = append(r.Bounds, b)
	}
	if len(r.Bounds) == 0 {
		return VersionRange{}, errors.New("it holds no bound")
	}
	return r, nil
}

var requiresTable = table[Requires]{
	fields: map[string]func(node, *Requires){
		"role":      func(n node, r *Requires) { oneOf(n, &r.Role, RolePrimary, RoleReplica) },
		"extension": func(n node, r *Requires) { r.Extensions = n.words() },
	},
	refused: map[string]refusal{
		"server_version": {"stands beside requires, not in it", "write it as a field of the query"},
	},
}

// versionRange sets *into to a range of versions.
func (n node) versionRange(into *VersionRange) {
	s, ok := n.text()
	if !ok {
		return
	}
	r, err := ParseVersionRange(s)
	if err != nil {
		n.fail("is not a range of versions: "+err.Error(), `write bounds such as ">=14" or ">=13 <16"; "mariadb >=10.5" is for MariaDB only`)
		return
	}
	*into = r
}
