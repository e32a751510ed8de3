#!/usr/bin/env bash
# Makes this machine one of a Ray cluster, or brings it up to date. Run as the user that Ray is to run as; packages of the
# system that are missing are asked of sudo. Beside this script lie
#
#   constraints.txt, dist/swath-*.whl                       the package and the versions it stands on
#   make_certs.sh                                           infra/tls/make_certs.sh
#   secret/token, secret/tls/ca.crt, secret/tls/ca.key      the cluster's token and its authority
#
# and afterwards venv/ and `environment`, lines NAME=value for systemd's EnvironmentFile= and for `set -a; . environment`.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

packages=(python3-venv openssl tesseract-ocr tesseract-ocr-eng tesseract-ocr-osd)
dpkg --status "${packages[@]}" >/dev/null 2>&1 ||
    { sudo apt-get -qq update && sudo apt-get -qq install -y --no-install-recommends "${packages[@]}"; }

if [ ! -e venv/.installed ] || [ -n "$(find constraints.txt dist -newer venv/.installed)" ]; then
    wheels=(dist/swath-*.whl)
    [ ${#wheels[@]} = 1 ] || { echo "leave one wheel in $PWD/dist, the one to install: ${wheels[*]}" >&2; exit 1; }
    python3 -m venv venv
    venv/bin/pip install --quiet -c constraints.txt dist/swath-*.whl
    touch venv/.installed
fi

chmod -R go= secret
read -ra addresses <<<"$(hostname -I)"
bash make_certs.sh secret/tls machine "${addresses[@]}" 127.0.0.1 localhost

umask 077
cat >environment <<END
PATH=$PWD/venv/bin:/usr/local/bin:/usr/bin:/bin
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN_PATH=$PWD/secret/token
RAY_USE_TLS=1
RAY_TLS_CA_CERT=$PWD/secret/tls/ca.crt
RAY_TLS_SERVER_CERT=$PWD/secret/tls/machine.crt
RAY_TLS_SERVER_KEY=$PWD/secret/tls/machine.key
RAY_USAGE_STATS_ENABLED=0
PREFECT_SERVER_ANALYTICS_ENABLED=false
DO_NOT_TRACK=1
END
