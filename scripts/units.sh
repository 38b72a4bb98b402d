#!/bin/sh
# Does systemd read our units as they are meant, and are they shut in as they should be?
#
#   scripts/units.sh
#
# Exit: 0 sound, 1 a unit is wrong or too exposed.
set -eu

# Of 100, as `systemd-analyze security` counts; a daemon that nobody thought about has 96.
EXPOSED_MAX=20

main() {
    cd "$(dirname "$0")/.."
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    failed=0
    for unit in packaging/systemd/*.service; do
        # The programs are not installed where this runs.
        sed 's|^\(Exec[A-Za-z]*=\)/usr/bin/m2key-[a-z]*|\1/bin/true|' "$unit" >"$work/$(basename "$unit")"
    done
    for unit in "$work"/*.service; do
        verify "$unit"
        shut_in "$unit"
    done
    exit $failed
}

# Unknown keys are only warnings to systemd, and each is a mistake to us.
verify() {
    said=$(systemd-analyze verify --man=no "$1" 2>&1 | grep -F "$(basename "$1")" || true)
    [ -z "$said" ] || wrong "$said"
}

shut_in() {
    # A graded list of everything, whose last line says how exposed.
    if ! said=$(systemd-analyze security --no-pager --offline=true --threshold=$EXPOSED_MAX "$1" 2>&1); then
        wrong "$(printf '%s\n' "$said" | tail -n 1)"
    fi
}

wrong() {
    printf 'error: %s\n' "$1" >&2
    failed=1
}

main
