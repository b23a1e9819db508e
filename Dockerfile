# One image for all of Tollgate's processes: `tollgate api`, `worker`, `sink`, and every other command.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/tollgate
# The locked packages first: they change less often than the code, and each is checked against its hash.
COPY requirements.lock .
RUN /opt/tollgate/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.lock
COPY . .
RUN /opt/tollgate/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --home-dir /var/lib/tollgate --create-home tollgate \
    && install --directory --owner=tollgate /var/lib/tollgate-tokens /var/cache/tollgate
COPY --from=build /opt/tollgate /opt/tollgate
ENV PATH=/opt/tollgate/bin:$PATH PYTHONUNBUFFERED=1 TOLLGATE_DATA_DIR=/var/lib/tollgate
ENV NUMBA_CACHE_DIR=/var/cache/tollgate
USER tollgate
WORKDIR /var/lib/tollgate
# The loops that rate events are compiled here, so that no worker's start waits for it.
RUN python -m streams.rehearsal
ENTRYPOINT ["tollgate"]
CMD ["--help"]
