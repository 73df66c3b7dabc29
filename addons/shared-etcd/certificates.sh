#!/bin/sh
# Certificates for the shared etcd: a CA, one certificate for the members and one for their clients.
#
#   ./certificates.sh DIRECTORY ETCD_0 ETCD_1 ETCD_2
#
# Writes etcd/ and client/ below DIRECTORY, each with ca.crt, tls.crt and tls.key, valid for DAYS (default 3650), and the
# CA's key as ca.key: keep that in a safe place.  Does not touch the cluster.
set -eu

if [ $# -ne 4 ]; then
    echo "usage: $0 DIRECTORY ETCD_0 ETCD_1 ETCD_2" >&2
    exit 2
fi
directory=$1
shift
days=${DAYS:-3650}
umask 077
mkdir -p "$directory/etcd" "$directory/client"
cd "$directory"
if [ -e ca.key ]; then
    echo "$directory/ca.key exists: delete it to make a new CA" >&2
    exit 1
fi

key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}

# sign DIRECTORY NAME EXTENSIONS
sign() {
    key "$1/tls.key"
    openssl req -new -key "$1/tls.key" -subj "/CN=$2" -out request.csr
    printf '%s\n' "keyUsage=critical,digitalSignature" "$3" > extensions
    openssl x509 -req -in request.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days "$days" -sha256 \
        -extfile extensions -out "$1/tls.crt" 2>/dev/null
    cp ca.crt "$1/ca.crt"
    rm request.csr extensions
}

key ca.key
openssl req -x509 -new -key ca.key -subj "/CN=kube-dns-etcd" -days "$days" -sha256 -out ca.crt \
    -addext "keyUsage=critical,keyCertSign,cRLSign"

sign etcd kube-dns-etcd "extendedKeyUsage=serverAuth,clientAuth
subjectAltName=IP:127.0.0.1,IP:$1,IP:$2,IP:$3"
sign client kube-dns "extendedKeyUsage=clientAuth"
