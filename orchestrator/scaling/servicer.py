"""KEDA's external scaler and the orchestrators' question to each other on the wire: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator

from draftpool.errors import BadParameter
from draftpool.keda import externalscaler_pb2, externalscaler_pb2_grpc
from draftpool.v1 import demand_pb2, demand_pb2_grpc
from orchestrator.scaling.demand import Demand
from orchestrator.scaling.loads import PoolLoads
from orchestrator.scaling.signals import NOTHING_KNOWN, ScaledPool, is_wanted, signals

_LOOK_S = 1.0
"""How soon a stream tells of what has changed elsewhere; of this orchestrator's own requests it tells at once."""


class ExternalScalerServicer(externalscaler_pb2_grpc.ExternalScalerServicer):
    """Serves `externalscaler.ExternalScaler`."""

    def __init__(self, loads: PoolLoads) -> None:
        self._loads = loads

    async def IsActive(
        self, request: externalscaler_pb2.ScaledObjectRef, _context: object
    ) -> externalscaler_pb2.IsActiveResponse:
        load = await self._loads.load(ScaledPool.from_metadata(request.scaler_metadata))
        return externalscaler_pb2.IsActiveResponse(result=is_wanted(load))

    async def StreamIsActive(
        self, request: externalscaler_pb2.ScaledObjectRef, _context: object
    ) -> AsyncIterator[externalscaler_pb2.IsActiveResponse]:
        """At once, and whenever it changes."""
        pool = ScaledPool.from_metadata(request.scaler_metadata)
        told: bool | None = None
        while True:
            is_active = is_wanted(await self._loads.load(pool))
            if is_active != told:
                told = is_active
                yield externalscaler_pb2.IsActiveResponse(result=is_active)
            await self._loads.changed(_LOOK_S)

    async def GetMetricSpec(
        self, request: externalscaler_pb2.ScaledObjectRef, _context: object
    ) -> externalscaler_pb2.GetMetricSpecResponse:
        pool = ScaledPool.from_metadata(request.scaler_metadata)
        return externalscaler_pb2.GetMetricSpecResponse(
            metric_specs=[
                externalscaler_pb2.MetricSpec(
                    metric_name=signal.name,
                    target_size=max(1, round(signal.threshold)),
                    target_size_float=signal.threshold,
                )
                for signal in signals(pool, NOTHING_KNOWN)
            ]
        )

    async def GetMetrics(
        self, request: externalscaler_pb2.GetMetricsRequest, _context: object
    ) -> externalscaler_pb2.GetMetricsResponse:
        pool = ScaledPool.from_metadata(request.scaled_object_ref.scaler_metadata)
        measured = {signal.name: signal.value for signal in signals(pool, await self._loads.load(pool))}
        if request.metric_name not in measured:
            raise BadParameter(f"no metric {request.metric_name!r}; this pool has {', '.join(measured)}")
        value = measured[request.metric_name]
        return externalscaler_pb2.GetMetricsResponse(
            metric_values=[
                externalscaler_pb2.MetricValue(
                    metric_name=request.metric_name, metric_value=round(value), metric_value_float=value
                )
            ]
        )


class DemandServicer(demand_pb2_grpc.DemandServicer):
    """Serves `draftpool.v1.Demand`."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    async def Report(self, _request: demand_pb2.ReportDemandRequest, _context: object) -> demand_pb2.ReportDemandReply:
        return demand_pb2.ReportDemandReply(
            orchestrator_id=self._demand.orchestrator_id, num_requests=dict(self._demand.num_requests)
        )
