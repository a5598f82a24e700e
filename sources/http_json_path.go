package sources

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"sql2metrics/config"
)

// jsonThis is the path of a row itself.
const jsonThis = "@this"

// checkJSONPaths refuses a path that leads nowhere, and @fromstr: what a string
// holds may nest so deep that whatever parses it ends the process.
func checkJSONPaths(j config.JSON) error {
	paths := []config.JSONColumn{{Name: "of rows", Path: j.Rows}}
	for _, c := range j.Columns {
		if c.Path == "" {
			return fmt.Errorf("column %s has no path; write %s for the row itself", c.Name, jsonThis)
		}
		paths = append(paths, config.JSONColumn{Name: "of column " + c.Name, Path: c.Path})
	}
	for _, p := range paths {
		if strings.Contains(p.Path, "@fromstr") {
			return fmt.Errorf("the path %s %s has @fromstr, which is not supported; have the server send JSON that is not inside of a string", p.Path, p.Name)
		}
	}
	return nil
}

// firstStep splits a path that begins with the name of a member into that name
// and the rest. Of any other path the name is empty.
func firstStep(path string) (name, rest string) {
	var plain []byte
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '.':
			if rest = path[i+1:]; rest == "" {
				return "", ""
			}
			return string(plain), rest
		case '\\':
			if i++; i == len(path) {
				return "", ""
			}
			plain = append(plain, path[i])
		case '@', '!', '#', '|', '*', '?', '{', '[', '(', '"':
			return "", ""
		default:
			plain = append(plain, c)
		}
	}
	return string(plain), ""
}

// findJSON returns the JSON to which a path leads from value. Nothing is found
// in a value that has no members, unless the path changes it: gjson would look
// for the first bracket, be it inside of a string.
func findJSON(value, path string) (raw string, ok bool) {
	if value[0] != '{' && value[0] != '[' && strings.IndexByte("@!{[", path[0]) < 0 {
		return "", false
	}
	found := gjson.Get(value, path)
	if found.Raw == "" && found.Type == gjson.Number { // it was counted
		return strconv.FormatInt(int64(found.Num), 10), true
	}
	raw = strings.Trim(found.Raw, jsonSpace)
	return raw, raw != ""
}
