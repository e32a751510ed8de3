locals {
  overlay = {
    ACCOUNT         = local.account
    REGION          = var.region
    BUCKET          = aws_s3_bucket.this.id
    "DATABASE-HOST" = aws_db_instance.this.address
  }
}

output "overlay" {
  description = "What stands in capitals in infra/kubernetes/overlays/aws/kustomization.yaml."
  value       = local.overlay
}

output "fill_in" {
  description = "The same as a script for sed."
  value       = join("; ", [for name, value in local.overlay : "s|\\b${name}\\b|${value}|g"])
}

output "swath_warehouse" {
  description = "SWATH_WAREHOUSE."
  value       = "s3://${aws_s3_bucket.this.id}/${local.warehouse}"
}

output "swath_catalog" {
  description = "SWATH_CATALOG. Postgres' password comes from the environment (PGPASSWORD)."
  value       = jsonencode(local.catalogs[var.catalog])
}

output "database_master_secret" {
  description = "ARN of the secret that Amazon made for Postgres' first user; initdb.sh wants it once."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "registry" {
  description = "Where the images are pushed to."
  value       = aws_ecr_repository.this.repository_url
}

output "roles" {
  description = "What the service accounts are annotated with (eks.amazonaws.com/role-arn), and the policy for analysts."
  value       = merge({ for name, one in aws_iam_role.pod : name => one.arn }, { analyst = aws_iam_policy.analyst.arn })
}

output "kubeconfig" {
  description = "The command that makes kubectl speak to the cluster."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${aws_eks_cluster.this.name}"
}
