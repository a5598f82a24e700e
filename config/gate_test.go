package config

import "testing"

func TestVersionRangeHolds(t *testing.T) {
	for name, test := range map[string]struct {
		written, version string
		want             bool
	}{
		"postgres":               {">=14", "15.3 (Debian 15.3-0+deb12u1)", true},
		"beta":                   {">=16", "16beta1", true},
		"too old":                {">=14", "13.11", false},
		"between":                {">=13 <16", "15.14", true},
		"above":                  {">=13 <16", "16.0", false},
		"mariadb":                {">=10.5", "10.11.6-MariaDB-0+deb12u1", true},
		"redis":                  {"<7.2", "7.0.15", true},
		"clickhouse":             {">=18.16.1 <26", "18.16.1", true},
		"a bound of one part":    {"<=14", "14.5", true},
		"not above its own part": {">14", "14.5", false},
		"above its part":         {">14", "15", true},
		"equal":                  {"=14.5", "14.5.1", true},
		"not equal":              {"!=14.5", "14.5.1", false},
		"shorter version":        {">=14.0", "14", true},
		"no version at all":      {">=14", "unknown", false},
		"behind a word":          {">=14", "PostgreSQL 15.3", true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseVersionRange(test.written)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Holds(test.version); got != test.want {
				t.Errorf("%s holds %s: %v", test.written, test.version, got)
			}
			if r.String() != test.written {
				t.Errorf("prints as %s", r)
			}
		})
	}
}

func FuzzVersionRange(f *testing.F) {
	for _, s := range []string{">=14", ">=13 <16", "mariadb >=10.5", "14", ">=", ">=1..2", ">=01", ">=99999999999999999999", "=>3", ""} {
		f.Add(s, "15.3 (Debian)")
	}
	f.Fuzz(func(t *testing.T, s, version string) {
		r, err := ParseVersionRange(s)
		if err != nil {
			return
		}
		again, err := ParseVersionRange(r.String())
		if err != nil || again.String() != r.String() || again.Holds(version) != r.Holds(version) {
			t.Errorf("%q prints as %s, which reads as %s, %v", s, r, again, err)
		}
	})
}
