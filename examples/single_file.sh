#!/bin/sh
# One executable file that holds xmodal, its models, every library and Python itself, for Linux machines that get a
# file rather than an installation. docs/install.md says why it is made so, and what it measures.
#
#   examples/single_file.sh                               dist/xmodal, with the torch that uv installs here
#   examples/single_file.sh FILE                          the same elsewhere
#   examples/single_file.sh FILE ARGUMENT...              more arguments for `uv pip install`: extras, other versions
#   UV_TORCH_BACKEND=cpu examples/single_file.sh FILE     with the CPU build of torch
#   PYTHON=3.12 examples/single_file.sh FILE              with another Python; one that `uv python install` brought is
#                                                         best, since it needs nothing of the machine but its C library
#
# The file runs on the builder's kind of processor with a C library that is not older. Building needs uv, and in
# $TMPDIR the room of everything unpacked and of the file: about 10 GB with CUDA.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
file=${1:-$root/dist/xmodal}
[ $# -eq 0 ] || shift
work=$(mktemp -d "${TMPDIR:-/tmp}/xmodal-file.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Python: the interpreter, its shared library and its standard library without the parts that nothing here imports.
uv venv --quiet --python "${PYTHON:-3.11}" "$work/base"
places='import sys, sysconfig as s; print(sys.version_info[1], s.get_path("stdlib"), s.get_config_var("LIBDIR"))'
set -- "$@" --python "$work/python/bin/python3"
read -r minor stdlib libdir <<EOF
$("$work/base/bin/python" -c "$places")
EOF
mkdir -p "$work/python/bin" "$work/python/lib/python3.$minor"
cp -L "$work/base/bin/python" "$work/python/bin/python3"
cp -P "$libdir/libpython3.$minor."so* "$work/python/lib/" 2>/dev/null || true
tar -C "$stdlib" -cf - --exclude=./site-packages --exclude=./dist-packages --exclude=./test --exclude=./idlelib \
    --exclude=./tkinter --exclude=./lib2to3 --exclude=./ensurepip --exclude='./config-*' --exclude=__pycache__ \
    --exclude=./EXTERNALLY-MANAGED . | tar -C "$work/python/lib/python3.$minor" -xf -
mkdir "$work/python/lib/python3.$minor/site-packages"
export LD_LIBRARY_PATH="$work/python/lib"

# xmodal, installed as anyone installs it: uv's settings choose the registry and the build of torch. Compiled here, so
# that the first start need not.
uv build --quiet --wheel --out-dir "$work" "$root"
uv pip install --quiet --compile-bytecode "$work"/xmodal-*.whl "$@"

# gzip, which every machine has, at level 3: level 6 takes two and a half times as long for a tenth less.
find "$work/python/bin" -type f ! -name python3 -delete
tar -C "$work" --owner=0 --group=0 -cf - python | "$(command -v pigz || echo gzip)" -3 > "$work/payload"
rm -rf "$work/python"
id=$(sha256sum "$work/payload" | cut -c1-16)

# The first start unpacks beside its final place and renames, so that two starts at once, or one that is interrupted,
# leave nothing half done. -I: neither the folder nor the machine's Python settings can put other code in the way.
cat > "$work/stub" <<'EOF'
#!/bin/sh
set -eu
place="${XDG_CACHE_HOME:-$HOME/.cache}/xmodal-file"
here="$place/@ID@"
if [ ! -d "$here" ]; then
    echo "xmodal: unpacking into $here, this once" >&2
    mkdir -p "$place"
    part=$(mktemp -d "$place/part.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    trap 'exit 130' INT TERM
    tail -n +@LINE@ "$0" | tar -xzf - -C "$part" || {
        echo "error: could not unpack into $place" >&2
        echo "hint: is the disk full? another folder: XDG_CACHE_HOME=FOLDER $0" >&2
        exit 1
    }
    mv -T "$part" "$here" 2>/dev/null || [ -d "$here" ]
    rm -rf "$part"
fi
LD_LIBRARY_PATH="$here/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/python/bin/python3" -I -c 'import sys; from xmodal_cli.__main__ import main; sys.exit(main())' "$@"
EOF
sed -i "s/@ID@/$id/; s/@LINE@/$(($(wc -l < "$work/stub") + 1))/" "$work/stub"

mkdir -p "$(dirname "$file")"
cat "$work/stub" "$work/payload" > "$file.part"
chmod +x "$file.part"
mv "$file.part" "$file"
ls -lh "$file"
