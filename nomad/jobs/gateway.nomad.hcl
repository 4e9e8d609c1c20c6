# The edge gateway as a Nomad job, one on each client of the node pool.
#
# It runs on the host's network and registers itself with Consul where its
# configuration has mesh backends, so this file registers an ordinary service only.
# Needs: the `gateway` binary on the clients, a Consul agent beside each of them.
#
#   nomad job run nomad/jobs/gateway.nomad.hcl

variable "gateway" {
  description = "Path of the gateway binary on the clients."
  type        = string
  default     = "/usr/local/bin/gateway"
}

job "gateway" {
  type = "system"

  group "gateway" {
    network {
      mode = "host"
      port "http" { static = 8080 }
      port "admin" { static = 19000 }
    }

    # The gateway drains for up to 30 s; Consul stops sending clients before that.
    shutdown_delay = "5s"

    service {
      name     = "edge"
      port     = "http"
      provider = "consul"

      # Not /ready: the admin listener is on loopback, where the check would not
      # find it. A draining gateway closes its listeners at once, which this sees.
      check {
        type     = "tcp"
        port     = "http"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "gateway" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "40s"

      config {
        command = var.gateway
        args = [
          "run",
          "--config", "${NOMAD_TASK_DIR}/gateway.yaml",
          "--admin-bind", "127.0.0.1:${NOMAD_PORT_admin}",
        ]
      }

      # Read again by the gateway when Nomad rewrites it: no restart, no signal.
      template {
        destination = "local/gateway.yaml"
        change_mode = "noop"
        data        = <<-YAML
          version: edge/v1
          service: {name: edge-gateway}
          listeners:
          - {name: http, port: 8080, protocol: HTTP}
          backends:
          - name: web
            discovery: {consul: {service: web, mesh: true}}
          routes:
          - name: web
            parentRefs: [{name: http}]
            rules:
            - matches: [{path: {type: PathPrefix, value: /}}]
              backendRefs: [{name: web}]
        YAML
      }

      resources {
        cpu    = 500
        memory = 128
      }
    }
  }
}
