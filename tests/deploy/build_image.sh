#!/usr/bin/env bash
# Build deploy/Dockerfile without a container engine and without an image registry: with Debian's buildah, RUN lines in a chroot, on a
# base made by debootstrap. Needs root, buildah and debootstrap.
#
#   build_image.sh FOLDER     all files stay under FOLDER; the image is localhost/lockgate:built in the storage of FOLDER/storage.conf
#
# LOCKGATE_BASE_TAR is a tar of the base image; it is created if it does not exist (debootstrap takes a minute or two).
set -euo pipefail

folder=$(realpath "${1:?usage: build_image.sh FOLDER}")
source=$(realpath "$(dirname "$0")/../..")
base=${LOCKGATE_BASE_TAR:-$folder/base.tar}
[ "$(id -u)" = 0 ] || { echo "building an image without a container engine needs root" >&2; exit 3; }
for program in buildah debootstrap; do
	command -v "$program" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 3; }
done
PATH=$PATH:/usr/sbin:/sbin
umask 022

if [ ! -e "$base" ]; then
	. /etc/os-release
	[ "${ID:-}" != ubuntu ] || components=--components=main,universe
	debootstrap --variant=minbase ${components:-} --include=python3,python3-venv,libgomp1,ca-certificates "${VERSION_CODENAME:-stable}" "$folder/base" >"$folder/base.log" 2>&1 ||
		{ tail -20 "$folder/base.log" >&2; exit 1; }
	rm -rf "$folder"/base/var/cache/apt/archives/*.deb "$folder"/base/var/lib/apt/lists/*
	tar -C "$folder/base" --one-file-system -cf "$base.part" .
	mv "$base.part" "$base"
	rm -rf "$folder/base"
fi

cat >"$folder/storage.conf" <<END
[storage]
driver = "vfs"
graphroot = "$folder/storage"
runroot = "$folder/run"
END
export CONTAINERS_STORAGE_CONF="$folder/storage.conf" BUILDAH_ISOLATION=chroot

container=$(buildah from scratch)
buildah add --quiet "$container" "$base" / >/dev/null
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --rm "$container" localhost/lockgate-base >/dev/null

# The settings of this machine's pip, from files and the environment, are written to one file that only the build can read.
config="$folder/pip.conf"
(umask 077 && python3 - >"$config" <<'END'
import configparser, subprocess, sys
listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
merged = {}
for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
    name, _, value = line.partition("=")
    merged[name.rpartition(".")[2]] = value[1:-1]
merged.pop("constraint", None)  # a file that the build does not see; the lock file pins every version anyway
print("[global]")
for name, value in merged.items():
    print(f"{name} = {value}")
END
)
# The build gets this machine's certificates too, because a machine behind a proxy may have additional ones.
buildah bud --quiet --pull-never --format docker --layers=false --build-arg BASE_IMAGE=localhost/lockgate-base \
	--secret id=pip_conf,src="$config" --volume /etc/ssl/certs:/etc/ssl/certs:ro \
	--file "$source/deploy/Dockerfile" --tag localhost/lockgate:built "$source" >"$folder/build.log" 2>&1 ||
	{ tail -40 "$folder/build.log" >&2; rm -f "$config"; exit 1; }
rm -f "$config"
echo "localhost/lockgate:built"
