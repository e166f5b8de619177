#!/bin/sh
# Checks an image that has been built: `docker/check.sh IMAGE [FOLDER]`, FOLDER with a model (the default one unless named).
# TARGET=cuda for an image with the libraries of CUDA, which is run without a GPU here.
# ENGINE is what runs images (docker; podman takes the same commands), NETWORK the options with which the port 18080 of a
# container is that of this machine, if publishing it is not possible (--network host). It needs curl and gzip.
set -eu

IMAGE=$1
MODEL=$(cd "${2:-$(dirname "$0")/../models/smollm2-135m-instruct}" && pwd)
ENGINE=${ENGINE:-docker}
NAME=sconce-check-$$
PORT=18080
TARGET=${TARGET:-cpu}
# Compressed, as it is pulled.
case $TARGET in
cpu) MOST_BYTES=60000000 ;;
cuda) MOST_BYTES=700000000 ;;
*) echo "TARGET=$TARGET: must be cpu or cuda" >&2; exit 1 ;;
esac

fail() {
  echo "$IMAGE: $1" >&2
  exit 1
}

equals() {
  [ "$2" = "$3" ] || fail "$1 is '$2' and must be '$3'"
}

inspect() {
  $ENGINE inspect --format "$1" "$IMAGE"
}

equals "the user" "$(inspect '{{.Config.User}}')" 65532:65532
equals "the entry point" "$(inspect '{{json .Config.Entrypoint}}')" '["sconce"]'
equals "the command" "$(inspect '{{json .Config.Cmd}}')" '["serve"]'
label=com.amazonaws.sagemaker.capabilities
for capability in accept-bind-to-port multi-models; do
  equals "the label $capability" "$(inspect "{{index .Config.Labels \"$label.$capability\"}}")" true
done

bytes=$($ENGINE save "$IMAGE" | gzip -c | wc -c)
[ "$bytes" -le "$MOST_BYTES" ] || fail "it has $bytes bytes compressed, and $MOST_BYTES are allowed"

if [ "$TARGET" = cuda ]; then
  # All libraries are there and can be opened, with what they need of others.
  for library in libcublas.so libcublasLt.so libcurand.so libnccl.so; do
    $ENGINE run --rm --entrypoint sh "$IMAGE" -c "ldd /usr/local/lib/cuda/$library" >/tmp/$NAME.ldd 2>&1 || fail "it lacks $library"
    ! grep "not found" /tmp/$NAME.ldd || fail "$library lacks what is named above"
    rm -f "/tmp/$NAME.ldd"
  done
  # Where a GPU is asked for and there is none, one line says what is missing.
  said=$($ENGINE run --rm --read-only --tmpfs /tmp -e OPTION_DEVICE=cuda -v "$MODEL:/opt/ml/model:ro" "$IMAGE" serve 2>&1) && fail "option.device=cuda needs no GPU"
  equals "the lines that say so" "$(printf '%s\n' "$said" | grep -c 'libcuda.so.1')" 1
fi

trap '$ENGINE rm -f "$NAME" >/dev/null 2>&1' EXIT
# A root that can only be read, no rights, as SageMaker runs it.
$ENGINE run -d --name "$NAME" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
  ${NETWORK:--p 127.0.0.1:$PORT:$PORT} -e SAGEMAKER_BIND_TO_PORT=$PORT -v "$MODEL:/opt/ml/model:ro" "$IMAGE" serve >/dev/null
left=120
until curl -sf "http://127.0.0.1:$PORT/ping" >/dev/null; do
  left=$((left - 1))
  [ "$left" -gt 0 ] || fail "it was not ready after two minutes: $($ENGINE logs "$NAME" 2>&1 | tail -5)"
  sleep 1
done
$ENGINE exec "$NAME" sconce health >/dev/null || fail "its own health check fails"
answer=$(curl -sf "http://127.0.0.1:$PORT/invocations" -H 'Content-Type: application/json' \
  -d '{"inputs": "The capital of France is", "parameters": {"max_new_tokens": 4}}')
case $answer in
*generated_text*) ;;
*) fail "it answered $answer" ;;
esac
$ENGINE stop -t 30 "$NAME" >/dev/null
equals "the exit code after SIGTERM" "$($ENGINE inspect --format '{{.State.ExitCode}}' "$NAME")" 0
echo "$IMAGE: $bytes bytes compressed; answers as nobody on a read-only root, is healthy, stops in order"
