# A service in the mesh, with meshd as its sidecar, on the host's network.
#
# No CNI plugins and no Envoy: the group's service is registered by Nomad, the
# sidecar's registration by a prestart task, and meshd runs beside the
# application. The application listens on loopback only, since without a network
# namespace its port is reachable by everyone on the host.
#
#   nomad job run nomad/jobs/sidecar.nomad.hcl

variable "meshd" {
  description = "Path of the meshd binary on the clients."
  type        = string
  default     = "/usr/local/bin/meshd"
}

variable "consul" {
  description = "Path of the consul binary on the clients."
  type        = string
  default     = "/usr/local/bin/consul"
}

job "web" {
  group "web" {
    network {
      mode = "host"
      port "app" {}
      port "mesh" {}
      port "admin" {}
    }

    # Registers the application and its sidecar under IDs of our own. Nomad only
    # prunes IDs that start with `_nomad-`, so they stay until they are taken out below.
    task "register" {
      driver = "raw_exec"
      lifecycle {
        hook = "prestart"
      }
      config {
        command = var.consul
        args    = ["services", "register", "${NOMAD_TASK_DIR}/web.hcl"]
      }
      template {
        destination = "local/web.hcl"
        data        = <<-HCL
          service {
            id      = "web-{{ env "NOMAD_ALLOC_ID" }}"
            name    = "web"
            address = "{{ env "NOMAD_IP_app" }}"
            port    = {{ env "NOMAD_PORT_app" }}
            connect {
              sidecar_service {
                port = {{ env "NOMAD_PORT_mesh" }}
                proxy {
                  local_service_address = "127.0.0.1"
                }
              }
            }
          }
        HCL
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }

    task "sidecar" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "40s"
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      config {
        command = var.meshd
        args = [
          "run",
          "--sidecar-for", "web-${NOMAD_ALLOC_ID}",
          "--admin-bind", "127.0.0.1:${NOMAD_PORT_admin}",
        ]
      }
      resources {
        cpu    = 200
        memory = 64
      }
    }

    # Replace this with the application.
    task "app" {
      driver = "raw_exec"
      config {
        command = "/usr/bin/python3"
        args    = ["-m", "http.server", "--bind", "127.0.0.1", "${NOMAD_PORT_app}"]
      }
      resources {
        cpu    = 200
        memory = 64
      }
    }

    task "deregister" {
      driver = "raw_exec"
      lifecycle {
        hook = "poststop"
      }
      config {
        command = var.consul
        args    = ["services", "deregister", "-id=web-${NOMAD_ALLOC_ID}"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
