package main

func basicSituations(situations map[string][]situation) {
	situations["basics"] = []situation{
		{name: "the version", args: "version", wantOutput: "collectord "},
		{name: "a configuration that is right", args: "config check", config: "data_dir: DIR/data\n", wantOutput: "the configuration is valid\n"},
		{name: "no configuration", args: "config check --data-dir DIR/data", wantOutput: "the configuration is valid, but no file was read: /etc/collectord/collectord.yaml does not exist"},
	}
}
