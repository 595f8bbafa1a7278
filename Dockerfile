# historyd in a container: docker build -t historyd . && docker run -p 50051:50051 -v history:/var/lib/historyd historyd
FROM python:3.13.7-slim-bookworm AS build
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
WORKDIR /src
ENV UV_PROJECT_ENVIRONMENT=/opt/historyd UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
# Dependencies first: they change less often than the code, so their layer is kept.
COPY pyproject.toml uv.lock ./
COPY clients/python/pyproject.toml clients/python/
RUN uv sync --frozen --no-dev --extra alerts --extra ccxt --extra questdb --extra redis --no-install-workspace
COPY LICENSE README.md CHANGELOG.md ./
COPY server server
COPY clients/python clients/python
RUN uv sync --frozen --no-dev --extra alerts --extra ccxt --extra questdb --extra redis --no-editable

FROM python:3.13.7-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/historyd --create-home historyd
COPY --from=build /opt/historyd /opt/historyd
ENV PATH=/opt/historyd/bin:$PATH PYTHONUNBUFFERED=1
USER historyd
WORKDIR /var/lib/historyd
VOLUME /var/lib/historyd
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-m", "historyd.healthcheck"]
# SIGTERM drains: reads finish, backfills stop at a page boundary.
STOPSIGNAL SIGTERM
ENTRYPOINT ["historyd"]
CMD ["serve", "--listen", "0.0.0.0:50051"]
