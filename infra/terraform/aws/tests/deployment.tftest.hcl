# `terraform test`: everything is planned and "made" against a provider that makes nothing.
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c", "eu-central-1d"] }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::swath-111122223333-eu-central-1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/one" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/one" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::111122223333:policy/one" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:111122223333:log-group:one" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/AB" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_db_instance" {
    defaults = { address = "swath.db.eu-central-1.rds.amazonaws.com", master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:one" }] }
  }
  mock_resource "aws_eks_cluster" {
    defaults = { identity = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/AB" }] }] }
  }
}

variables {
  region  = "eu-central-1"
  sources = [{ bucket = "photos", prefix = "2026/" }]
}

run "nothing_is_public" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "The bucket may be made public."
  }
  assert {
    condition     = !aws_db_instance.this.publicly_accessible && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The database or the API answers the internet."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.database.cidr_ipv4 == null
    error_message = "The database answers addresses, not the cluster."
  }
}

run "everything_is_encrypted" {
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    error_message = "The bucket is not encrypted with the key."
  }
  assert {
    condition     = aws_db_instance.this.storage_encrypted && one([for one in aws_db_parameter_group.this.parameter : one.value if one.name == "rds.force_ssl"]) == "1"
    error_message = "The database, or the way to it, is not encrypted."
  }
  assert {
    condition     = contains([for one in jsondecode(aws_s3_bucket_policy.this.policy).Statement : try(one.Condition.Bool["aws:SecureTransport"], "") if one.Effect == "Deny"], "false")
    error_message = "The bucket answers without TLS."
  }
}

run "the_overlay_is_filled_in" {
  assert {
    condition     = output.fill_in == "s|\\bACCOUNT\\b|111122223333|g; s|\\bBUCKET\\b|${aws_s3_bucket.this.id}|g; s|\\bDATABASE-HOST\\b|swath.db.eu-central-1.rds.amazonaws.com|g; s|\\bREGION\\b|eu-central-1|g"
    error_message = output.fill_in
  }
}

run "no_secret_is_in_the_state" {
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "The database's password is in the state."
  }
  assert {
    condition     = jsondecode(output.swath_catalog).uri == "postgresql://iceberg@swath.db.eu-central-1.rds.amazonaws.com:5432/iceberg"
    error_message = "SWATH_CATALOG: ${output.swath_catalog}"
  }
}

run "pods_may_do_what_they_need_and_no_more" {
  assert {
    condition = toset(flatten([for one in jsondecode(aws_iam_role_policy.pod["swath"].policy).Statement : one.Action])) == toset([
      "s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads", "s3:GetObject", "s3:PutObject", "s3:DeleteObject",
      "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "kms:Decrypt", "kms:GenerateDataKey",
    ])
    error_message = "The workers' role: ${aws_iam_role_policy.pod["swath"].policy}"
  }
  assert {
    condition = alltrue([
      for one in jsondecode(aws_iam_role_policy.pod["swath"].policy).Statement : alltrue([for resource in one.Resource : resource != "*"])
    ])
    error_message = "The workers' role reaches everything."
  }
  assert {
    condition     = [for one in jsondecode(aws_iam_role_policy.pod["swath"].policy).Statement : one.Resource if one.Sid == "ReadSources"] == [["arn:aws:s3:::photos/2026/*"]]
    error_message = "More than the source is read."
  }
  assert {
    condition     = jsondecode(aws_iam_role.pod["swath"].assume_role_policy).Statement[0].Condition.StringEquals["oidc.eks.eu-central-1.amazonaws.com/id/AB:sub"] == "system:serviceaccount:swath:swath"
    error_message = "Another service account may take on the role."
  }
  assert {
    condition     = alltrue([for one in jsondecode(aws_iam_policy.analyst.policy).Statement : alltrue([for action in one.Action : contains(["s3:ListBucket", "s3:GetObject", "kms:Decrypt"], action)])])
    error_message = "Analysts may write."
  }
}

run "what_is_current_never_expires" {
  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : alltrue([for one in rule.expiration : one.days == null || one.days == 0])])
    error_message = "A rule deletes files of tables, or of runs, by their age."
  }
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "What is deleted is gone."
  }
}

run "workers_come_from_nothing" {
  assert {
    condition     = alltrue([for name in ["cpu", "gpu"] : aws_eks_node_group.this[name].scaling_config[0].min_size == 0 && aws_eks_node_group.this[name].capacity_type == "SPOT"])
    error_message = "Workers' machines stay, or are no spot machines."
  }
  assert {
    condition     = toset([for one in aws_eks_node_group.this["gpu"].taint : one.key]) == toset(["swath/spot", "nvidia.com/gpu"])
    error_message = "The GPUs' machines take any pod."
  }
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Pods get the machines' own credentials."
  }
}

run "glue_instead_of_postgres" {
  variables {
    catalog = "glue"
  }
  assert {
    condition     = jsondecode(output.swath_catalog).type == "glue"
    error_message = "SWATH_CATALOG: ${output.swath_catalog}"
  }
  assert {
    condition     = [for one in jsondecode(aws_iam_role_policy.pod["swath"].policy).Statement : one.Resource[2] if one.Sid == "Catalog"] == ["arn:aws:glue:eu-central-1:111122223333:table/swath/*"]
    error_message = "The role does not reach its tables in Glue, or others too."
  }
}

run "ray_up_starts_its_own_machines_only" {
  variables {
    ray_up = true
  }
  assert {
    condition     = alltrue([for one in jsondecode(aws_iam_role_policy.machine["head"].policy).Statement : one.Resource != ["*"] || one.Sid == "Look"])
    error_message = "The head's role reaches everything: ${aws_iam_role_policy.machine["head"].policy}"
  }
  assert {
    condition     = length(output.ray_up) == 4 && toset(keys(aws_iam_instance_profile.machine)) == toset(["head", "worker"])
    error_message = "infra/ray/cluster.yaml asks for more than there is."
  }
  assert {
    condition     = !strcontains(aws_iam_role_policy.machine["worker"].policy, "ec2:")
    error_message = "A worker starts machines."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.ssh_to_ray[0].cidr_ipv4 == var.network
    error_message = "SSH answers from outside of the network."
  }
}

run "wrong_values_are_refused" {
  command = plan
  variables {
    name       = "Swath!"
    catalog    = "hive"
    api_access = ["0.0.0.0/0"]
    sources    = [{ bucket = "*" }]
    network    = "10.0.0.0/8"
  }
  expect_failures = [var.name, var.catalog, var.api_access, var.sources, var.network]
}
