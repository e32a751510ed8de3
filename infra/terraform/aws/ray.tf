# For `ray up` (infra/ray/cluster.yaml), where there is to be no Kubernetes: who its machines are and who may reach them.
variable "ray_up" {
  description = "Make what infra/ray/cluster.yaml asks for."
  type        = bool
  default     = false
}

locals {
  machines = { for name, statements in {
    head   = concat(local.read_sources, local.write_warehouse, local.use_glue, local.start_machines)
    worker = concat(local.read_sources, local.write_warehouse)
  } : name => statements if var.ray_up }

  # The head may start machines of this group only, as workers only, and end only those that Ray has tagged as its own.
  start_machines = [
    {
      Sid       = "Look"
      Effect    = "Allow"
      Action    = ["ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeImages", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeKeyPairs", "ec2:DescribeVpcs"]
      Resource  = ["*"] # descriptions cannot be given for single resources
      Condition = {}
    },
    {
      Sid       = "Start"
      Effect    = "Allow"
      Action    = ["ec2:RunInstances"]
      Resource  = ["arn:${local.partition}:ec2:${var.region}:${local.account}:instance/*"]
      Condition = { StringEquals = { "aws:RequestTag/ray-cluster-name" = var.name } }
    },
    {
      Sid    = "StartWith"
      Effect = "Allow"
      Action = ["ec2:RunInstances"]
      Resource = concat(
        [for one in ["network-interface", "volume", "key-pair"] : "arn:${local.partition}:ec2:${var.region}:${local.account}:${one}/*"],
        ["arn:${local.partition}:ec2:${var.region}::image/*", one(aws_security_group.ray[*].arn)],
        aws_subnet.private[*].arn,
      )
      Condition = {}
    },
    {
      Sid       = "Tag"
      Effect    = "Allow"
      Action    = ["ec2:CreateTags"]
      Resource  = ["arn:${local.partition}:ec2:${var.region}:${local.account}:instance/*"]
      Condition = { StringEquals = { "aws:RequestTag/ray-cluster-name" = var.name, "ec2:CreateAction" = "RunInstances" } }
    },
    {
      Sid       = "OfItsOwn"
      Effect    = "Allow"
      Action    = ["ec2:TerminateInstances", "ec2:CreateTags"]
      Resource  = ["arn:${local.partition}:ec2:${var.region}:${local.account}:instance/*"]
      Condition = { StringEquals = { "aws:ResourceTag/ray-cluster-name" = var.name } }
    },
    {
      Sid       = "AsWorkers"
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = ["arn:${local.partition}:iam::${local.account}:role/${var.name}-ray-worker"]
      Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
    },
  ]
}

resource "aws_iam_role" "machine" {
  for_each = local.machines
  name     = "${var.name}-ray-${each.key}"

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "machine" {
  for_each = local.machines
  name     = "work"
  role     = aws_iam_role.machine[each.key].id
  policy   = jsonencode({ Version = "2012-10-17", Statement = [for one in each.value : { for key, value in one : key => value if key != "Condition" || length(value) > 0 }] })
}

resource "aws_iam_instance_profile" "machine" {
  for_each = local.machines
  name     = "${var.name}-ray-${each.key}"
  role     = aws_iam_role.machine[each.key].name
}

resource "aws_security_group" "ray" {
  count       = var.ray_up ? 1 : 0
  name        = "${var.name}-ray"
  description = "Machines of the Ray cluster"
  vpc_id      = aws_vpc.this.id
}

# Ray's processes take ports as they come.
resource "aws_vpc_security_group_ingress_rule" "among_ray" {
  count                        = var.ray_up ? 1 : 0
  security_group_id            = aws_security_group.ray[0].id
  description                  = "Among themselves"
  referenced_security_group_id = aws_security_group.ray[0].id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_ingress_rule" "ssh_to_ray" {
  count             = var.ray_up ? 1 : 0
  security_group_id = aws_security_group.ray[0].id
  description       = "SSH from inside the network"
  cidr_ipv4         = var.network
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}

resource "aws_vpc_security_group_egress_rule" "from_ray" {
  count             = var.ray_up ? 1 : 0
  security_group_id = aws_security_group.ray[0].id
  description       = "Packages, S3, each other"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_vpc_security_group_ingress_rule" "database_from_ray" {
  count                        = var.ray_up ? 1 : 0
  security_group_id            = aws_security_group.database.id
  description                  = "Postgres from the Ray head"
  referenced_security_group_id = aws_security_group.ray[0].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

output "ray_up" {
  description = "What stands in capitals in infra/ray/cluster.yaml, but for the images and the key."
  value = { for name, value in {
    REGION           = var.region
    BUCKET           = aws_s3_bucket.this.id
    SUBNET           = aws_subnet.private[0].id
    "SECURITY-GROUP" = one(aws_security_group.ray[*].id)
  } : name => value if var.ray_up }
}
