package bench

// metrics are all there are, in the order in which they are printed.
func metrics() []*metric {
	return []*metric{
		metricPoolHot(), metricPoolSpread(), metricPoolVsRow(), metricPoolVsRedis(), metricPoolVsAdvisory(),
		metricPoolHotVsSpread(), metricPoolAlone(), metricPoolCart(), metricPoolClaim(), metricPoolRot(),
		metricPoolSoldOut(), metricPoolFlash(), metricPoolNeighbour(),
		metricRespRelay(), metricRespPipelined(), metricRespTwemproxy(),
		metricRespShadow(), metricRespDeadShadow(), metricRespLive(),
		metricMemoryHolds(), metricAudit(),
	}
}
