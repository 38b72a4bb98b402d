#!/bin/sh
# Prepares a place for a SoftHSM token: directory, configuration, PIN files. The HSM token itself is
# made by `m2key-authority init`, because softhsm2-util takes PINs as arguments, where every process
# of the machine can read them.
set -eu

MODULE=${M2KEY_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
LABEL_MAX=32
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

usage() {
    echo "usage: init-token.sh --dir DIR --label LABEL [--pin-file FILE]" >&2
    echo "  --dir DIR        where configuration, PIN files and HSM tokens go" >&2
    echo "  --label LABEL    the HSM token's label, 1 to $LABEL_MAX characters" >&2
    echo "  --pin-file FILE  an existing PIN (mode 0600); default: DIR/pin, made if absent" >&2
    exit 2
}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

# A PIN of 16 digits from the kernel, into a new file that only its owner may read.
make_pin() {
    [ -e "$1" ] && return
    digits=$(od -An -N64 -tu1 /dev/urandom | awk '{ for (i = 1; i <= NF; i++) if ($i < 250) printf "%d", $i % 10 }' | cut -c1-16)
    [ "${#digits}" -eq 16 ] || fail "too few random digits for a PIN" "run it again"
    (umask 077 && set -C && printf '%s\n' "$digits" >"$1")
}

check_pin() {
    [ -f "$1" ] || fail "no PIN file $1" "leave out --pin-file to have one made"
    # Only a file without any right for group and others is printed by this.
    [ -n "$(find -L "$1" -prune ! -perm -040 ! -perm -020 ! -perm -010 ! -perm -004 ! -perm -002 ! -perm -001)" ] || fail "others can read the PIN file $1" "chmod 600 $1"
}

dir='' label='' pin_file=''
while [ $# -gt 0 ]; do
    case $1 in
        --dir) [ $# -ge 2 ] || usage; dir=$2; shift 2 ;;
        --label) [ $# -ge 2 ] || usage; label=$2; shift 2 ;;
        --pin-file) [ $# -ge 2 ] || usage; pin_file=$2; shift 2 ;;
        *) usage ;;
    esac
done
if [ -z "$dir" ] || [ -z "$label" ] || [ "${#label}" -gt "$LABEL_MAX" ]; then usage; fi
[ -e "$MODULE" ] || fail "no PKCS#11 module at $MODULE" "apt-get install -y softhsm2, or set M2KEY_MODULE"

(umask 077 && mkdir -p "$dir/tokens")
chmod 700 "$dir/tokens"
dir=$(CDPATH='' cd -- "$dir" && pwd)
conf=$dir/softhsm2.conf
# Escaped for the replacement side of sed.
tokens=$(printf '%s' "$dir/tokens" | sed 's/[\\&|]/\\&/g')
[ -e "$conf" ] || sed "s|@TOKENS@|$tokens|" "$here/softhsm2.conf.in" >"$conf"

make_pin "$dir/so-pin"
[ -n "$pin_file" ] || { pin_file=$dir/pin; make_pin "$pin_file"; }
check_pin "$dir/so-pin"
check_pin "$pin_file"

cat <<TEXT
configuration   $conf
HSM tokens      $dir/tokens
PIN             $pin_file
officer's PIN   $dir/so-pin   (keep it elsewhere: only making a new PIN needs it)

The HSM token "$label" is made by the next command, run as the authority's user:

  SOFTHSM2_CONF='$conf' m2key-authority init

Give it the module $MODULE, the label and the two PIN files above.
TEXT
