#!/bin/sh
# Checks an image that has been built: `docker/check.sh IMAGE [FOLDER]`, FOLDER with a model (the default one unless named).
# ENGINE is what runs images (docker; podman takes the same commands), NETWORK the options with which the port 18080 of a
# container is that of this machine, if publishing it is not possible (--network host). It needs curl and gzip.
set -eu

IMAGE=$1
MODEL=$(cd "${2:-$(dirname "$0")/../models/smollm2-135m-instruct}" && pwd)
ENGINE=${ENGINE:-docker}
NAME=sconce-check-$$
PORT=18080
# Compressed, as it is pulled.
MOST_BYTES=60000000

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
