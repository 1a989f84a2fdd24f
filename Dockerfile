# Checked for structure only; not yet built by a docker engine.
#
# The build keeps cargo's downloads and its target directory in BuildKit caches, so that a changed line rebuilds our own
# crates and not their dependencies.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin jangbu \
    && objcopy --strip-debug target/release/jangbu /jangbu

# Certificates are compiled in and PostgreSQL and RabbitMQ live elsewhere: the C library is all that is needed.
FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --no-create-home jangbu \
    && install --directory --owner jangbu --group jangbu --mode 0700 /var/lib/jangbu
COPY --from=build /jangbu /usr/local/bin/jangbu
USER 10001:10001
WORKDIR /var/lib/jangbu
ENV JANGBU_BIND=0.0.0.0:8080 JANGBU_DATA_DIR=/var/lib/jangbu
EXPOSE 8080
ENTRYPOINT ["jangbu"]
CMD ["serve"]
