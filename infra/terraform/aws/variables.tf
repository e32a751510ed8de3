variable "name" {
  description = "Name of the deployment: prefix of everything in it, and of the role of its service account."
  type        = string
  default     = "swath"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "Small letters, digits and dashes, at most 21 of them, a letter first."
  }
}

variable "region" {
  description = "Where everything stands: where the images lie, for what leaves a region is paid for."
  type        = string
}

variable "sources" {
  description = "Where images are read: buckets and the prefix below which they may be read (empty: all of it)."
  type        = list(object({ bucket = string, prefix = optional(string, "") }))

  validation {
    condition     = length(var.sources) > 0 && alltrue([for one in var.sources : !strcontains("${one.bucket}${one.prefix}", "*")])
    error_message = "At least one source, and no wildcards: access is given to what is named."
  }
}

variable "source_kms_keys" {
  description = "ARNs of the keys that the sources are encrypted with, where they are."
  type        = list(string)
  default     = []
}

variable "catalog" {
  description = "Where Iceberg's catalog is: postgres (the database that Prefect has too) or glue."
  type        = string
  default     = "postgres"

  validation {
    condition     = contains(["postgres", "glue"], var.catalog)
    error_message = "postgres or glue."
  }
}

variable "network" {
  description = "Addresses of the network, a /16."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.network, 0)) && endswith(var.network, "/16")
    error_message = "A CIDR of 16 bits, such as 10.40.0.0/16."
  }
}

variable "api_access" {
  description = "Addresses from which the Kubernetes API may be called; empty: from inside the network only."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for one in var.api_access : can(cidrhost(one, 0)) && tonumber(split("/", one)[1]) >= 16])
    error_message = "CIDRs of at least 16 bits: the API is not for everybody."
  }
}

variable "administrators" {
  description = "ARNs of the roles that may do anything in the Kubernetes cluster."
  type        = list(string)
  default     = []
}

variable "kubernetes_version" {
  description = "Version of Kubernetes; EKS supports each for 14 months."
  type        = string
  default     = "1.33"
}

variable "base_nodes" {
  description = "Machines that stay: the Ray head, the drivers, Prefect."
  type        = object({ types = list(string), min = number, max = number })
  default     = { types = ["m6i.2xlarge"], min = 1, max = 3 }
}

variable "cpu_nodes" {
  description = "Machines of the CPU workers; a worker takes 7 CPUs and 26 GiB (infra/kubernetes/base/ray/cluster.yaml)."
  type        = object({ types = list(string), max = number, spot = optional(bool, true) })
  default     = { types = ["m6i.2xlarge", "m6a.2xlarge", "m5.2xlarge", "m5a.2xlarge", "m7i.2xlarge"], max = 16 }
}

variable "gpu_nodes" {
  description = "Machines of the GPU workers, one GPU each."
  type        = object({ types = list(string), max = number, spot = optional(bool, true) })
  default     = { types = ["g5.2xlarge", "g6.2xlarge", "g4dn.2xlarge"], max = 4 }
}

variable "database" {
  description = "Size of the Postgres server; its storage grows by itself."
  type        = object({ class = string, gigabytes = number, two_zones = bool })
  default     = { class = "db.t4g.medium", gigabytes = 20, two_zones = true }
}

variable "keep_deleted_days" {
  description = "How long an overwritten or deleted file of the tables can be had back, and the database's backups."
  type        = number
  default     = 14

  validation {
    condition     = var.keep_deleted_days >= 7 && var.keep_deleted_days <= 35
    error_message = "7 to 35 days."
  }
}
