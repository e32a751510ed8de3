#!/bin/sh
# Makes what the overlays refer to: secrets that nobody chose, a private authority whose certificates the pods show each
# other, and the authority of the database's certificate.
#
#   DATABASE_CA=global-bundle.pem sh infra/kubernetes/secrets.sh
#   sh infra/kubernetes/secrets.sh authority    # that one alone, for the overlay `local`
#
# What is there stays as it is. PREFECT_PASSWORD and ICEBERG_PASSWORD are taken where they are set.
set -eu
only=${1:-}
space=${NAMESPACE:-swath}
random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }
make() { # KIND NAME OPTIONS...
    kind=$1 name=$2
    shift 2
    [ "${only:-$name}" = "$name" ] || return 0
    # shellcheck disable=SC2086 # `secret generic` is two words
    kubectl -n "$space" get "${kind%% *}" "$name" >/dev/null 2>&1 || kubectl -n "$space" create $kind "$name" "$@"
}

kubectl get namespace "$space" >/dev/null 2>&1 || kubectl create namespace "$space"
# Files, not words of a command line, which every process of the machine can read.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
umask 077
printf %s "${PREFECT_PASSWORD:-$(random)}" >"$folder/prefect-password"
printf %s "${ICEBERG_PASSWORD:-$(random)}" >"$folder/iceberg-password"
printf %s "$(random)" >"$folder/postgres-password"
printf %s "$(random)" >"$folder/auth_token"
printf 'swath:%s' "$(random)" >"$folder/auth-string"
make 'secret generic' databases --from-file="$folder/prefect-password" --from-file="$folder/iceberg-password" \
    --from-file="$folder/postgres-password"
make 'secret generic' ray-auth --from-file="$folder/auth_token"
make 'secret generic' prefect-auth --from-file="$folder/auth-string"
"$(dirname "$0")/../tls/make_certs.sh" "$folder/tls" unused >&2 # the authority comes with its first certificate
make 'secret generic' authority --from-file="$folder/tls/ca.crt" --from-file="$folder/tls/ca.key"
[ -n "$only" ] ||
    make configmap database-ca --from-file=ca.pem="${DATABASE_CA:?the file with the authority of your database}"
