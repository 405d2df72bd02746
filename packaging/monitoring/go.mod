// Module monitoring makes the Grafana dashboard, with a library that no program of ours needs.
module collectord/packaging/monitoring

go 1.26.0

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
