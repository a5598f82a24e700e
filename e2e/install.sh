#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, from Debian's packages,
# and the packages named as arguments, each of which has a program of its name.
# Tests start servers of their own, on free ports in temporary folders, so no
# server is left running by the installation and none that runs is touched.
# Where it cannot install, it says what is missing and lets the tests decide:
# they skip, or fail under E2E_REQUIRE=1.
set -euo pipefail

compiles_c() { echo 'int main(void) { return 0; }' | gcc -x c -o /dev/null - 2>/dev/null; }

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' && compgen -G '/usr/lib/postgresql/*/bin/pgbench'; }
has_mariadb() { [ -x /usr/sbin/mariadbd ] && command -v mariadb-install-db; }
has_clickhouse() { [ -x /usr/sbin/clickhouse-server ] || command -v clickhouse-server; }
has_redis() { command -v redis-server && command -v redis-sentinel; }
has_pgbouncer() { [ -x /usr/sbin/pgbouncer ]; }
scraped=(prometheus prometheus-node-exporter prometheus-mysqld-exporter prometheus-redis-exporter prometheus-pushgateway)

missing=()
compiles_c || missing+=(gcc libc6-dev)
has_postgres >/dev/null || missing+=(postgresql)
has_mariadb >/dev/null || missing+=(mariadb-server)
has_redis >/dev/null || missing+=(redis-server redis-sentinel)
has_pgbouncer || missing+=(pgbouncer)
has_clickhouse >/dev/null || missing+=(clickhouse-server)
for package in "${scraped[@]}" "$@"; do
	command -v "$package" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]} (names of Debian packages); install them by hand, there is no apt-get here" >&2
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	if sudo -n true 2>/dev/null; then
		exec sudo -n "$0" "$@"
	fi
	echo "missing: ${missing[*]}; install them as root: apt-get install ${missing[*]}" >&2
	exit 0
fi

# While packages are set up, a policy denies starting and restarting services,
# and PostgreSQL is told to make no cluster. Both are undone at the end.
policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/sql2metrics-tests.conf
prepared=no
restore() {
	[ "$prepared" = yes ] || return 0
	rm -f "$policy" "$no_cluster"
	[ ! -e "$policy.sql2metrics" ] || mv "$policy.sql2metrics" "$policy"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
prepare() {
	{ [ ! -e "$policy" ] || mv "$policy" "$policy.sql2metrics"; } &&
		prepared=yes &&
		printf '#!/bin/sh\nexit 101\n' >"$policy" &&
		chmod 755 "$policy" &&
		mkdir -p "${no_cluster%/*}" &&
		echo "create_main_cluster = false" >"$no_cluster"
}

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# An update that fails may still leave an index to install from.
apt-get update -qq || echo "apt-get update failed; going on with the index there is" >&2
if ! { prepare && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }; then
	echo "missing: ${missing[*]} (names of Debian packages); they could not be installed" >&2
fi
