#!/bin/sh
# Makes one key in each state that revocation knows, and prints them as one JSON line. Runs as LocalStack's ready hook in
# compose.yaml and after localstack/start.ts; needs only curl. LocalStack does not check signatures.
set -eu
endpoint="${LOCALSTACK_URL:-http://127.0.0.1:4566}"
region="${AWS_DEFAULT_REGION:-us-east-1}"

kms() {
  curl --silent --show-error --fail "$endpoint/" \
    --header "X-Amz-Target: TrentService.$1" \
    --header 'Content-Type: application/x-amz-json-1.1' \
    --header "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/$region/kms/aws4_request, SignedHeaders=host, Signature=0" \
    --data "$2"
}

create() {
  kms CreateKey "{\"Description\":\"$1\"}" | sed 's/.*"Arn": *"\([^"]*\)".*/\1/'
}

enabled=$(create 'keytether: enabled')
disabled=$(create 'keytether: disabled')
kms DisableKey "{\"KeyId\":\"$disabled\"}" > /dev/null
pending=$(create 'keytether: pending deletion')
kms ScheduleKeyDeletion "{\"KeyId\":\"$pending\",\"PendingWindowInDays\":7}" > /dev/null

printf '{"enabled":"%s","disabled":"%s","pending-deletion":"%s"}\n' "$enabled" "$disabled" "$pending"
