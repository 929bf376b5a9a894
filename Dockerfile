# One image, two commands: `start` (the default) and `migrate`. Secrets are mounted as files and never part of it.
# It runs on a read-only root file system, without capabilities, and needs no shell: any image with glibc and libstdc++
# will do for RUNTIME, one without a shell included.
ARG RUNTIME=debian:bookworm-slim

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Brings the Node that the lock file pins, too: the image runs the very runtime that the tests ran on.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund
COPY src src
COPY adapters adapters

FROM ${RUNTIME}
LABEL org.opencontainers.image.title="Keytether" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY --from=build /app /app
# The AWS SDK asks for a home folder, which a user without an entry in passwd does not have.
ENV KEYTETHER_MODE=production HOME=/app
USER 65532:65532
EXPOSE 8700
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["/app/node_modules/.bin/node", "-e", "fetch(`http://127.0.0.1:${process.env.KEYTETHER_PORT ?? 8700}/health`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# --permission: no file is written, no process or worker started, no native add-on loaded.
ENTRYPOINT ["/app/node_modules/.bin/node", "--permission", "--allow-fs-read=*", "--disable-sigusr1", "--report-exclude-env", "--disable-proto=throw", "src/start.mjs"]
CMD ["start"]
