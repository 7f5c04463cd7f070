# The exporter as an image: one binary, no shell, no root.
#   docker build -t cache-storm-exporter .
FROM rust:1.90-slim-bookworm AS build
WORKDIR /source
COPY . .
# Names of functions stay for readable panics; the lines would be most of the image.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN cargo build --locked --release --bin cache-storm-exporter && mkdir /state

# glibc and the system's certificate authorities, nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/cache-storm-exporter /usr/local/bin/cache-storm-exporter
# For `state_file: /var/lib/cache-storm-exporter/state`, on a volume.
COPY --from=build --chown=nonroot:nonroot /state /var/lib/cache-storm-exporter
USER nonroot
EXPOSE 9736
# There is no shell and no curl in here: the binary asks the exporter beside it.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s \
  CMD ["/usr/local/bin/cache-storm-exporter", "check", "--url", "http://127.0.0.1:9736"]
ENTRYPOINT ["/usr/local/bin/cache-storm-exporter"]
CMD ["serve"]
