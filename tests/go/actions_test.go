package bowstring

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
)

func TestListActions(t *testing.T) {
	s := newSpace(t)
	stream, err := s.client.ListActions(t.Context(), &flight.Empty{})
	s.must(err)
	described := map[string]string{}
	for {
		action, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		s.must(err)
		described[action.Type] = action.Description
	}
	for _, name := range []string{"exists", "delete", "describe", "stats", "namespace_set", "begin_load", "rollback_load"} {
		if !strings.Contains(described[name], "members") {
			t.Errorf("%s: %q", name, described[name])
		}
	}
}

func TestExistsAndDelete(t *testing.T) {
	s, _ := filled(t)
	reply := s.act("exists", object{"keys": []string{"a", "b", "no", "c"}})
	if got := fmt.Sprint(reply); got != "map[keys:[map[found:true key:a] map[found:true key:b] map[found:false key:no] map[found:true key:c]] leading:2]" {
		t.Error(got)
	}
	if got := fmt.Sprint(s.act("delete", object{"keys": []string{"a", "no"}})); got != "map[deleted:1 keys:[map[found:true key:a] map[found:false key:no]]]" {
		t.Error(got)
	}
	_, err := act(t.Context(), s.client, "delete", s.within(object{"keys": []string{"b"}, "if_version": "1"}))
	s.refused(err, "failed_precondition", "version")
	if got := fmt.Sprint(s.act("delete", object{"prefix": ""})); got != "map[deleted:3]" {
		t.Error(got)
	}
}

func TestDescribe(t *testing.T) {
	s := newSpace(t)
	one := sample("complex64", 3, 5)
	version := s.putAs(object{"key": "a", "metadata": object{"model": "m1"}}, one).Version
	row := s.act("describe", object{"keys": []string{"a"}})["keys"].([]any)[0].(object)
	for name, want := range (object{
		"key": "a", "found": true, "dtype": "complex64", "shape": []any{3.0, 5.0}, "bytes": 120.0, "version": version,
		"checksum": one.checksum(), "tier": "hot", "metadata": object{"model": "m1"}, "pinned": false,
	}) {
		if fmt.Sprint(row[name]) != fmt.Sprint(want) {
			t.Errorf("%s is %v", name, row[name])
		}
	}
}

func TestExpiryAndPins(t *testing.T) {
	s, _ := filled(t)
	s.act("expire", object{"keys": []string{"a"}, "ttl_ms": 1_000_000})
	s.act("pin", object{"keys": []string{"a", "b"}})
	row := func() object { return s.act("exists", object{"keys": []string{"a"}})["keys"].([]any)[0].(object) }
	if got := row(); got["pinned"] != true || got["ttl_ms"].(float64) <= 0 {
		t.Errorf("%v", got)
	}
	s.act("expire", object{"keys": []string{"a"}, "ttl_ms": nil})
	s.act("unpin", object{"keys": []string{"a", "b"}})
	if got := fmt.Sprint(row()); got != "map[found:true key:a]" {
		t.Error(got)
	}
}

func TestNamespaces(t *testing.T) {
	s, _ := filled(t)
	set := s.act("namespace_set", object{"settings": object{"entries_max": 10, "default_ttl_ms": 1_000_000}, "if_version": "0"})
	_, err := act(t.Context(), s.client, "namespace_set", s.within(object{"settings": object{}, "if_version": "0"}))
	s.refused(err, "failed_precondition", set["version"].(string))
	rows, err := act(t.Context(), s.client, "namespaces", object{"after": s.namespace[:len(s.namespace)-1], "limit": 1})
	s.must(err)
	row := rows["namespaces"].([]any)[0].(object)
	if row["namespace"] != s.namespace || row["entries"] != 4.0 || fmt.Sprint(row["settings"]) != "map[default_ttl_ms:1e+06 entries_max:10]" {
		t.Errorf("%v", row)
	}
	if got := fmt.Sprint(s.act("clear", object{"confirm": true})); got != "map[deleted:4]" {
		t.Error(got)
	}
}

func TestStats(t *testing.T) {
	s := newSpace(t)
	if s.stat("wire") != 1 || s.stat("memory", "used_bytes") > s.stat("memory", "limit_bytes") {
		t.Error("stats say what cannot be")
	}
}

func TestActionRefusals(t *testing.T) {
	s := newSpace(t)
	for _, one := range []struct {
		name string
		body object
		code string
		says string
	}{
		{"frobnicate", object{}, "unimplemented", "frobnicate"},
		{"attach", object{}, "invalid_argument", "files"},
		{"exists", object{}, "invalid_argument", "keys"},
		{"exists", object{"keys": []string{"a"}, "colour": 1}, "invalid_argument", "colour"},
		{"expire", object{"keys": []string{"a"}, "ttl_ms": 0}, "invalid_argument", "ttl_ms"},
		{"clear", object{}, "invalid_argument", "confirm"},
		{"clear", object{"confirm": false}, "invalid_argument", "confirm"},
		{"namespace_set", object{"settings": object{"colour": 1}}, "invalid_argument", "colour"},
	} {
		_, err := act(t.Context(), s.client, one.name, s.within(one.body))
		s.refused(err, one.code, one.says)
	}
}
