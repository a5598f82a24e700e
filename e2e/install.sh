#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, from Debian's packages.
# Tests start servers of their own, on free ports in temporary folders, so no
# server is left running by the installation and none that runs is touched.
# Where it cannot install, it says what is missing and lets the tests decide.
set -euo pipefail

compiles_c() { echo 'int main(void) { return 0; }' | gcc -x c -o /dev/null - 2>/dev/null; }

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' && compgen -G '/usr/lib/postgresql/*/bin/pgbench'; }

missing=()
compiles_c || missing+=(gcc libc6-dev)
has_postgres >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]} (names of Debian packages); install them by hand, there is no apt-get here" >&2
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	if sudo -n true 2>/dev/null; then
		exec sudo -n "$0"
	fi
	echo "missing: ${missing[*]}; install them as root: apt-get install ${missing[*]}" >&2
	exit 0
fi

# While packages are set up, a policy denies starting and restarting services,
# and PostgreSQL is told to make no cluster. Both are undone at the end.
policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/sql2metrics-tests.conf
restore() {
	rm -f "$policy" "$no_cluster"
	[ ! -e "$policy.sql2metrics" ] || mv "$policy.sql2metrics" "$policy"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
[ ! -e "$policy" ] || mv "$policy" "$policy.sql2metrics"
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"
mkdir -p "${no_cluster%/*}"
echo "create_main_cluster = false" >"$no_cluster"

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
