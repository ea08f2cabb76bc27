# One binary in a small image. Build: docker build -t gradwatch .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package gradwatch-server --bin gradwatch

FROM debian:bookworm-slim
# Roots of trust for TLS to a database.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data gradwatch \
    && install --directory --owner gradwatch --group gradwatch /data
COPY --from=build /src/target/release/gradwatch /usr/local/bin/gradwatch
USER gradwatch
# Where SQLite keeps its files when DATABASE_URL is not set.
VOLUME /data
ENV GRADWATCH_LISTEN=0.0.0.0:7700 GRADWATCH_DATA_DIR=/data
EXPOSE 7700
# Longer than shutdown_deadline_s, so that a drain is not cut off: docker stop --time 15
STOPSIGNAL SIGTERM
ENTRYPOINT ["gradwatch"]
CMD ["serve"]
