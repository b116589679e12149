package api

// Dashboard asks who serves the dashboard. Nothing -> DashboardPlace
const Dashboard = "tidemark.api.dashboard"

// DashboardPlace is where the dashboard is served.
type DashboardPlace struct {
	Node string `json:"node"`
	URL  string `json:"url"` // empty: that process serves no HTTP
}
