package main

func basicSituations(situations map[string][]situation) {
	situations["basics"] = []situation{
		{name: "the version", args: "version", wantOutput: "collectord "},
		{name: "a configuration that is right", args: "config check", config: "data_dir: DIR/data\n", wantOutput: "the configuration is valid"},
	}
}
