#!/usr/bin/env bash
# A private certificate authority, and a certificate by it for one server:
#
#   infra/tls/make_certs.sh FOLDER NAME [ADDRESS ...]
#
# makes FOLDER/NAME.crt and FOLDER/NAME.key, good for NAME and every ADDRESS (a host name or an IP address), for 397 days;
# and, the first time, FOLDER/ca.crt, which clients are given, and FOLDER/ca.key, which stays where this script runs.
# Both ends of a connection between Ray's nodes show a certificate, so that it serves as a client's, too.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1 name=$2
umask 077
mkdir -p "$folder"
cd "$folder"

[ -e ca.key ] || [ ! -e ca.crt ] || { echo "$folder has the authority's ca.crt and not its ca.key: put it there" >&2; exit 1; }
[ -e ca.key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Swath private CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt 2>/dev/null

alternatives=
for one in "${@:2}"; do
    kind=DNS
    [[ $one =~ ^[0-9.]+$|: ]] && kind=IP
    alternatives+=${alternatives:+,}$kind:$one
done
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" 2>/dev/null |
    openssl x509 -req -days 397 -CA ca.crt -CAkey ca.key -CAcreateserial -out "$name.crt" 2>/dev/null -extfile <(
        echo "subjectAltName=$alternatives"
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        echo "authorityKeyIdentifier=keyid"
    )
chmod 644 ca.crt "$name.crt"
echo "$folder/$name.crt is good for ${*:2} until $(openssl x509 -noout -enddate -in "$name.crt" | cut -d= -f2)"
