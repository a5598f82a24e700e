package collect

import (
	"fmt"
	"strings"
	"testing"
)

func TestStrangePagesLikePrometheus(t *testing.T) {
	var many strings.Builder
	many.WriteString("# TYPE m counter\n")
	for i := range 12_000 {
		fmt.Fprintf(&many, "m{n=\"%d\",path=\"/a/%d\"} %d\n", i, i%7, i)
	}
	huge := strings.Repeat("x", 1<<20)
	compareScrapes(t, map[string]sideBySide{
		"UTF-8 names":          {pages: []page{textPage("# HELP \"a.b\" A.\n# TYPE \"a.b\" counter\n{\"a.b\"} 1\n{\"a.b_total\",\"l 1\"=\"é\"} 2\n{\"\\\"q\\\"\"} 3\n"), textPage("{\"a.b\"} 1\n")}},
		"UTF-8 OpenMetrics":    {pages: []page{openMetrics("# TYPE \"a.b\" counter\n{\"a.b_total\",\"l 1\"=\"é\"} 2\n{\"a.b_created\",\"l 1\"=\"é\"} 1700000000\n# EOF\n")}},
		"a value not UTF-8":    {pages: []page{textPage("a 1\n"), textPage("b 1\na{x=\"\xff\"} 1\n"), textPage("a 1\n")}, unmarked: []int{2, 3}},
		"OpenMetrics, as well": {pages: []page{openMetrics("a 1\n# EOF\n"), openMetrics("a{x=\"\xff\"} 1\n# EOF\n")}},
		"an exemplar not UTF-8": {pages: []page{
			openMetrics("# TYPE a counter\na_total 1\n# EOF\n"), openMetrics("# TYPE a counter\na_total 1 # {t=\"\xff\"} 1\n# EOF\n"),
		}, unmarked: []int{2}},
		"a long exemplar":         {pages: []page{openMetrics("# TYPE a counter\na_total 1 # {t=\"" + huge[:129] + "\"} 1\n# EOF\n")}},
		"huge values":             {pages: []page{textPage("a{x=\"" + huge + "\",y=\"1\"} 1\na{x=\"" + huge + "\",y=\"2\"} 1\n"), textPage("a{x=\"" + huge + "\",y=\"1\"} 1\n")}},
		"many series":             {pages: []page{textPage(many.String()), textPage("m 1\n")}},
		"empty values":            {pages: []page{textPage("a{x=\"\",y=\"\"} 1\na 2\n"), textPage("a 1\n"), textPage("b{x=\"\"} 1\n")}},
		"escapes":                 {pages: []page{textPage("# HELP a One \\\\ two \\n three.\na{x=\"\\\\ \\\" \\n\"} 1\n")}},
		"carriage returns":        {pages: []page{textPage("a 1\r\nb 2\r\n")}},
		"no line feed at the end": {pages: []page{textPage("a 1\nb 2"), openMetrics("a 1\n# EOF")}},
		"numbers":                 {pages: []page{textPage("a +Inf\nb -Inf\nc NaN\nd 0x1p3\ne 1e400\n"), textPage("a 1_000\n"), textPage("a 00001.5E+2\n")}, unmarked: []int{1, 2, 3}},
		"spaces":                  {pages: []page{textPage("a  1\nb{ x = \"1\" , } 2\n\n   \nc\t3\n")}},
		"the same metadata again": {pages: []page{textPage("# TYPE a counter\na{x=\"1\"} 1\n# HELP a A.\na{x=\"2\"} 1\n# TYPE b gauge\nb 1\n# TYPE a counter\na{x=\"3\"} 1\n")}},
		"a counter named total":   {pages: []page{textPage("# TYPE a_total counter\na_total 1\n# TYPE b_total counter\nb 1\n# TYPE c_info info\nc 1\n")}},
	})
}

func TestMalformedProtobufLikePrometheus(t *testing.T) {
	good := protobuf("name: \"a\" type: GAUGE\nmetric { gauge { value: 1 } }\n")
	cases := map[string]string{
		"a length that ends":        good.body[:1] + "",
		"a family that ends":        good.body[:len(good.body)-3],
		"a length too large":        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"another wire type":         "\x02\x08\x01",
		"a metric that ends":        "\x06\x0a\x01b\x22\x7f",
		"a group":                   "\x05\x0a\x01b\x23\x24",
		"no name":                   "\x04\x18\x01\x22\x00",
		"a name that is not UTF-8":  "\x07\x0a\x01\xff\x18\x01\x22\x00",
		"an unknown type":           "\x07\x0a\x01b\x18\x63\x22\x00",
		"a label that is not UTF-8": "\x10\x0a\x01b\x18\x01\x22\x09\x0a\x07\x0a\x01l\x12\x02\xff\xfe",
		"not protobuf":              "a 1\n",
		"nothing in it":             "\x00\x00",
	}
	all := map[string]sideBySide{}
	for name, body := range cases {
		all[name] = sideBySide{pages: []page{good, {kind: protobufType, body: body}, good}}
		all[name+", after a series"] = sideBySide{pages: []page{
			protobuf("name: \"c\" type: GAUGE\nmetric { gauge { value: 1 } }\n"), {kind: protobufType, body: good.body + body}, good,
		}, unmarked: []int{2, 3}}
	}
	compareScrapes(t, all)
}
