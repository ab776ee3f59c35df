#!/bin/sh
# Start Valkey with the password from its secret, which then stands in no file, argument or environment.
# Without a password, or with one that its settings would read as something else, it does not start.
set -eu
file=/run/secrets/valkey_password
password=$(cat "$file") || password=
case $password in
*[!A-Za-z0-9_-]*) problem="has other characters than letters, digits, _ and -" ;;
????????????????*) problem= ;;
*) problem="is missing, empty or shorter than 16 characters" ;;
esac
if [ -n "$problem" ]; then
    echo "Valkey does not start: the secret valkey_password $problem. deploy/make-secrets makes one." >&2
    exit 1
fi
exec valkey-server /etc/valkey/valkey.conf - <<END
requirepass $password
END
