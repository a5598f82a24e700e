package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"sql2metrics/agent/remotewrite"
	"sql2metrics/config"
)

// deadLetterCommand is what list, resend and rm are commands of.
func deadLetterCommand(app *kingpin.Application) *kingpin.CmdClause {
	if cmd := app.GetCommand("deadletter"); cmd != nil {
		return cmd
	}
	return app.Command("deadletter", "Look into what receivers have refused, send it again or remove it. Safe beside a running agent.")
}

func addDeadLetterList(app *kingpin.Application) (string, command) {
	cmd := deadLetterCommand(app).Command("list", "List the requests that receivers have refused, oldest first.")
	endpoint := cmd.Flag("endpoint", "Only those of this endpoint.").String()
	format := cmd.Flag("format", "Format of the list: table or json.").Default("table").Enum("table", "json")
	return cmd.FullCommand(), func(g *global) error {
		c, err := g.load()
		if err != nil {
			return err
		}
		letters, damaged := chosen(c, *endpoint, nil)
		print := printLetters
		if *format == "json" {
			print = printLettersJSON
		}
		return errors.Join(print(g.stdout, letters), damaged)
	}
}

func addDeadLetterResend(app *kingpin.Application) (string, command) {
	cmd := deadLetterCommand(app).Command("resend", "Send refused requests again, the same bytes to the endpoint's present URL; those that are accepted are removed.")
	endpoint := cmd.Flag("endpoint", "Only those of this endpoint.").String()
	ids := cmd.Arg("id", "Which ones, as deadletter list shows them; all by default.").Strings()
	return cmd.FullCommand(), func(g *global) error {
		c, err := g.load()
		if err != nil {
			return err
		}
		letters, err := chosen(c, *endpoint, *ids)
		return errors.Join(err, resend(g, c, letters))
	}
}

func addDeadLetterRemove(app *kingpin.Application) (string, command) {
	cmd := deadLetterCommand(app).Command("rm", "Remove refused requests for good. Their samples stay counted as refused.")
	endpoint := cmd.Flag("endpoint", "Only those of this endpoint.").String()
	all := cmd.Flag("all", "All of them.").Bool()
	ids := cmd.Arg("id", "Which ones, as deadletter list shows them.").Strings()
	return cmd.FullCommand(), func(g *global) error {
		switch {
		case len(*ids) == 0 && *endpoint == "" && !*all:
			return errors.New("deadletter: nothing is named; name ids as sql2metrics deadletter list shows them, --endpoint or --all")
		case len(*ids) > 0 && *all:
			return errors.New("deadletter: ids are named and --all, too; leave one of them out")
		}
		c, err := g.load()
		if err != nil {
			return err
		}
		letters, err := chosen(c, *endpoint, *ids)
		removed, failed := remotewrite.RemoveLetters(remotewrite.DeadLetterFolder(c.Storage.Path), letters)
		_, unsaid := fmt.Fprintf(g.stdout, "removed %d of %d requests\n", removed, len(letters))
		return errors.Join(err, failed, unsaid)
	}
}

// chosen returns the letters of these IDs, or all if none is named, of one
// endpoint or, with an empty name, of all. What there is none of is named in
// the error beside the list.
func chosen(c *config.Config, endpoint string, ids []string) ([]remotewrite.Letter, error) {
	letters, err := remotewrite.Letters(remotewrite.DeadLetterFolder(c.Storage.Path), endpoint)
	known := func(e config.RemoteWrite) bool { return e.Name == endpoint }
	if endpoint != "" && len(letters) == 0 && !slices.ContainsFunc(c.RemoteWrite, known) {
		err = errors.Join(err, fmt.Errorf("deadletter: no endpoint is called %s, and there are no letters of one that was", endpoint))
	}
	if len(ids) == 0 {
		return letters, err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(letters, func(l remotewrite.Letter) bool { return l.ID == id }) {
			err = errors.Join(err, fmt.Errorf("deadletter: there is no %s; sql2metrics deadletter list shows what there is", id))
		}
	}
	return slices.DeleteFunc(letters, func(l remotewrite.Letter) bool { return !slices.Contains(ids, l.ID) }), err
}

// resend sends letters to their endpoints, oldest first, and prints what
// became of each.
func resend(g *global, c *config.Config, letters []remotewrite.Letter) error {
	ctx, stop := interruptible(g)
	defer stop()
	resenders := map[string]*remotewrite.Resender{}
	for _, e := range c.RemoteWrite {
		r, err := remotewrite.NewResender(e, "sql2metrics/"+version.Version)
		if err != nil {
			return fmt.Errorf("deadletter: endpoint %s: %w", e.Name, err)
		}
		defer r.Close()
		resenders[e.Name] = r
	}
	failed := 0
	for _, l := range letters {
		answer, err := "", fmt.Errorf("no endpoint has this name in %s; name one so, and send it again", g.configFile)
		if r := resenders[l.Endpoint]; r != nil {
			answer, err = r.Resend(ctx, l)
		}
		if err != nil {
			failed++
			answer = "failed: " + err.Error()
		}
		if _, err := fmt.Fprintf(g.stdout, "%s %s: %s\n", l.Endpoint, l.ID, answer); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("deadletter: %d of %d requests were not taken and are kept", failed, len(letters))
	}
	return nil
}

func printLetters(w io.Writer, letters []remotewrite.Letter) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintln(w, "the dead letter is empty")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ENDPOINT\tID\tGIVEN UP\tREASON\tSAMPLES\tHISTOGRAMS\tEXEMPLARS\tBYTES\tFIRST SERIES\tANSWER")
	for _, l := range letters {
		first := ""
		if len(l.Series) > 0 {
			first = l.Series[0]
		}
		reason := string(l.Reason)
		if l.Unconfirmed {
			reason += ", unconfirmed"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", l.Endpoint, l.ID, l.Time.Format(time.RFC3339), reason,
			l.Samples, l.Histograms, l.Exemplars, l.Bytes, first, answerTo(&l))
	}
	return t.Flush()
}

// answerTo is what the receiver has said to a letter, on one line.
func answerTo(l *remotewrite.Letter) string {
	words, _, _ := strings.Cut(l.Words, "\n")
	words = printable(words)
	if l.Status != 0 {
		words = strings.TrimSpace(fmt.Sprintf("%d %s", l.Status, words))
	}
	if w := l.Written; w != nil {
		words = fmt.Sprintf("%s (partly stored: %d samples, %d histograms, %d exemplars)", words, w.Samples, w.Histograms, w.Exemplars)
	}
	return words
}

func printLettersJSON(w io.Writer, letters []remotewrite.Letter) error {
	type listed struct {
		ID    string `json:"id"`
		Bytes int64  `json:"bytes"`
		remotewrite.Letter
	}
	all := make([]listed, 0, len(letters))
	for _, l := range letters {
		all = append(all, listed{l.ID, l.Bytes, l})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(all)
}
