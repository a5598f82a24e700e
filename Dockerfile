# A static binary, the certificates to talk TLS with, and nothing else: no
# shell, no package manager, no root.

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=unknown REVISION=unknown
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH make build VERSION="$VERSION" REVISION="$REVISION"
RUN mkdir /empty

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /empty /tmp
COPY --from=build --chown=65532:65532 /empty /data
COPY --from=build /src/bin/sql2metrics /sql2metrics
# Numeric, so that Kubernetes can verify runAsNonRoot.
USER 65532:65532
VOLUME /data
EXPOSE 9399
ENTRYPOINT ["/sql2metrics"]
CMD ["run", "--config.file=/etc/sql2metrics/config.yml", "--storage.path=/data"]
