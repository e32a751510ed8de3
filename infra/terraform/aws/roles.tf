# Roles of Amazon's own services, by who takes them on.
locals {
  services = {
    cluster = { principal = "eks.amazonaws.com", policies = ["AmazonEKSClusterPolicy"] }
    nodes   = { principal = "ec2.amazonaws.com", policies = ["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"] }
    flows   = { principal = "vpc-flow-logs.amazonaws.com", policies = [] }
  }
}

resource "aws_iam_role" "service" {
  for_each = local.services
  name     = "${var.name}-${each.key}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = each.value.principal }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "service" {
  for_each   = merge([for name, one in local.services : { for policy in one.policies : "${name}/${policy}" => { role = name, policy = policy } }]...)
  role       = aws_iam_role.service[each.value.role].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value.policy}"
}

resource "aws_iam_role_policy" "flows" {
  name = "write"
  role = aws_iam_role.service["flows"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
      Resource = "${aws_cloudwatch_log_group.flows.arn}:*"
    }]
  })
}

# What pods may do, by the service account they run as, which alone can take on the role. No secret is handed out: the
# cluster signs who a pod is, Amazon believes it for an hour.
locals {
  issuer = trimprefix(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://")

  pods = {
    (var.name)               = { account = "swath:swath", statements = concat(local.read_sources, local.write_warehouse, local.use_glue) }
    "${var.name}-autoscaler" = { account = "kube-system:cluster-autoscaler", statements = local.scale }
  }

  read_sources = concat(
    [for one in var.sources : {
      Sid       = "List${substr(sha256("${one.bucket}/${one.prefix}"), 0, 8)}"
      Effect    = "Allow"
      Action    = ["s3:ListBucket", "s3:GetBucketLocation"]
      Resource  = ["arn:${local.partition}:s3:::${one.bucket}"]
      Condition = { StringLike = { "s3:prefix" = [one.prefix, "${one.prefix}*"] } }
    }],
    [{
      Sid       = "ReadSources"
      Effect    = "Allow"
      Action    = ["s3:GetObject"]
      Resource  = [for one in var.sources : "arn:${local.partition}:s3:::${one.bucket}/${one.prefix}*"]
      Condition = {}
    }],
    [for keys in [var.source_kms_keys] : {
      Sid       = "OpenSources"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = keys
      Condition = {}
    } if length(keys) > 0],
  )

  # Deleting is part of the work (leases, staging, `swath maintain`, `swath forget`); deleting versions is not.
  write_warehouse = [
    {
      Sid       = "ListWarehouse"
      Effect    = "Allow"
      Action    = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"]
      Resource  = [aws_s3_bucket.this.arn]
      Condition = {}
    },
    {
      Sid       = "WriteWarehouse"
      Effect    = "Allow"
      Action    = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
      Resource  = ["${aws_s3_bucket.this.arn}/${local.warehouse}/*"]
      Condition = {}
    },
    {
      Sid       = "EncryptWarehouse"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [aws_kms_key.this.arn]
      Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
    },
  ]

  use_glue = [for one in [var.catalog] : {
    Sid    = "Catalog"
    Effect = "Allow"
    Action = [
      "glue:GetDatabase", "glue:GetDatabases", "glue:CreateDatabase",
      "glue:GetTable", "glue:GetTables", "glue:CreateTable", "glue:UpdateTable", "glue:DeleteTable",
    ]
    Resource = [
      "arn:${local.partition}:glue:${var.region}:${local.account}:catalog",
      "arn:${local.partition}:glue:${var.region}:${local.account}:database/swath",
      "arn:${local.partition}:glue:${var.region}:${local.account}:table/swath/*",
    ]
    Condition = {}
  } if one == "glue"]

  scale = [
    {
      Sid    = "Look"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags", "ec2:DescribeImages", "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions", "ec2:GetInstanceTypesFromInstanceRequirements", "eks:DescribeNodegroup",
      ]
      Resource  = ["*"] # descriptions of these services cannot be given for single resources
      Condition = {}
    },
    {
      Sid       = "Scale"
      Effect    = "Allow"
      Action    = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
      Resource  = ["arn:${local.partition}:autoscaling:${var.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/eks-*"]
      Condition = { StringEquals = { "aws:ResourceTag/eks:cluster-name" = var.name } }
    },
  ]
}

resource "aws_iam_openid_connect_provider" "cluster" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "pod" {
  for_each = local.pods
  name     = each.key

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = aws_iam_openid_connect_provider.cluster.arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${local.issuer}:aud" = "sts.amazonaws.com"
          "${local.issuer}:sub" = "system:serviceaccount:${each.value.account}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "pod" {
  for_each = local.pods
  name     = "work"
  role     = aws_iam_role.pod[each.key].id
  policy   = jsonencode({ Version = "2012-10-17", Statement = [for one in each.value.statements : { for key, value in one : key => value if key != "Condition" || length(value) > 0 }] })
}

# For people who query: attach it to their role. Tables and records of runs, nothing else, and nothing is written.
resource "aws_iam_policy" "analyst" {
  name = "${var.name}-analyst"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "List"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = [aws_s3_bucket.this.arn]
        Condition = { StringLike = { "s3:prefix" = ["${local.warehouse}/*"] } }
      },
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for one in ["tables", "artifacts", "_swath"] : "${aws_s3_bucket.this.arn}/${local.warehouse}/${one}/*"]
      },
      {
        Sid       = "Open"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = [aws_kms_key.this.arn]
        Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
      },
    ]
  })
}
